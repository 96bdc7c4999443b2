//! Each real server and its double answer the same scenarios, and `certify` passes on the real
//! ones.

use testkit::Clusters;
use testkit::scenario::{KNOX_DOUBLE, Known, Target, assert_alike, script};
use testkit::servers::front::{Front, PASSWORD, USER, hdinsight_front, knox_front};
use testkit::servers::livy::Livy;

fn account(user: &str, password: &str) -> Option<(String, String)> {
    Some((user.to_owned(), password.to_owned()))
}

/// Sends both scenarios to the real server and to its double.
fn compare(livy: &Livy, front: Option<&Front>, base: &str, known: &[Known]) {
    let clusters = Clusters::start();
    let real = Target {
        address: front.map_or(livy.address, |front| front.address),
        ca_file: front.map(|front| front.ca_file.clone()),
        base: base.to_owned(),
        recorded_base: "",
        login: front.and_then(|_| account(USER, PASSWORD)),
        words: vec![
            ("/jobs/".to_owned(), format!("{}/", livy.jobs())),
            (
                r#""args": ["25"]"#.to_owned(),
                r#""args": ["2"]"#.to_owned(),
            ),
        ],
    };
    let double = Target {
        address: clusters.address,
        ca_file: None,
        base: base.to_owned(),
        recorded_base: "",
        login: front
            .and_then(|_| account(livy_gateway::sandbox::USER, livy_gateway::sandbox::PASSWORD)),
        words: vec![(
            r#""args": ["25"]"#.to_owned(),
            r#""args": ["2"]"#.to_owned(),
        )],
    };
    for scenario in [script("livy-0.7.1"), script("livy-0.7.1-more")] {
        assert_alike(
            &scenario,
            &real.play(&scenario),
            &double.play(&scenario),
            known,
        );
    }
}

#[test]
fn the_double_of_livy_is_like_a_real_one() {
    compare(&Livy::start(), None, "", &[]);
}

#[test]
fn the_double_of_knox_is_like_a_real_one() {
    let livy = Livy::start();
    let front = knox_front(&livy);
    compare(&livy, Some(&front), "/gateway/default/livy", &KNOX_DOUBLE);
}

#[test]
fn the_double_of_hdinsight_is_like_its_stand_in() {
    let livy = Livy::start();
    let front = hdinsight_front(&livy);
    compare(&livy, Some(&front), "/livy", &NGINX);
}

/// What nginx does in the place of HDInsight's own gateway, of which nobody knows whether it does
/// so too.
const NGINX: [Known; 2] = [
    ("double-slash", "", "nginx folds slashes"),
    ("encoded-slash", "", "nginx decodes them"),
];
