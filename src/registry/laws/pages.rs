//! Laws of pages and counts: they are what reading every row would show.

use super::*;

/// How many batches there are, so that they lie in several blocks of ids of either store.
const MANY: usize = 4_500;

/// A batch of somebody's.
fn of(user: Option<&str>, id: usize, name: &str) -> Observed {
    Observed {
        proxy_user: user.map(str::to_owned),
        ..seen(&id.to_string(), Some(name), BatchState::Running)
    }
}

/// Fills a registry with batches of two users and of nobody at two clusters; some end, are deleted,
/// lost, refused, or still on their way. Returns every row, by id.
async fn filled(registry: &Registry) -> Vec<Row> {
    let now = registry.clock().now();
    for (cluster, many) in [("c", MANY), ("d", 300)] {
        let user = |at: usize| [Some("ann"), Some("bob"), Some("ann"), None][at % 4];
        let list = (0..many).map(|at| of(user(at), at, &format!("job {}", at % 9)));
        let adopted = registry
            .store
            .adopt(cluster.into(), list.collect(), now, now);
        let rows = adopted.await.expect("is stored").known;
        let mut changed = Vec::new();
        for (at, (mut row, _)) in rows.into_iter().enumerate() {
            let upstream_id = row.known.phase.upstream_id().map(str::to_owned);
            match at % 10 {
                // A whole block of ids of which nothing is shown.
                _ if cluster == "c" && (1024..3072).contains(&at) => {
                    row.known.phase = Phase::Deleted { upstream_id }
                }
                3 => row.known.phase = Phase::Deleted { upstream_id },
                5 => row.known.phase = Phase::Detached { upstream_id },
                7 => row.known.ended = Some(now),
                _ => continue,
            }
            changed.push(row);
        }
        // A transaction has a deadline.
        for some in changed.chunks(100) {
            let saved = registry.store.save(some.to_vec()).await;
            saved.expect("is stored");
        }
    }
    for at in 0..6 {
        let entry = new(registry, intent(None)).await;
        if at % 2 == 0 {
            let refused = registry.refuse(&entry, "no", false).await;
            assert!(refused.expect("is stored"));
        }
    }
    let mut rows = Vec::new();
    for id in 1..=MANY + 306 {
        let id = GatewayId(i32::try_from(id).expect("is small"));
        rows.extend(registry.store.get(id).await.expect("is read"));
    }
    assert_eq!(rows.len(), MANY + 306);
    rows
}

#[tokio::test]
async fn pages_are_what_reading_all_would_show() {
    let registry = registry().await;
    let rows = filled(&registry).await;
    let visible = [
        Visible::All,
        Visible::OwnedBy("ann".into()),
        Visible::OwnedBy("bob".into()),
        Visible::OwnedBy("eve".into()),
        Visible::OwnedBy(String::new()),
    ];
    let hidden: Vec<GatewayId> = rows.iter().step_by(97).map(|row| row.identity.id).collect();
    for visible in visible {
        for (cluster, without) in [
            (None, &hidden[..]),
            (None, &[]),
            (Some("c"), &hidden[..]),
            (Some("d"), &[]),
            (Some("e"), &[]),
        ] {
            let is_wanted = |row: &&Row| {
                let identity = &row.identity;
                row.known.phase.is_visible()
                    && cluster.is_none_or(|cluster| identity.cluster == cluster)
                    && !without.contains(&identity.id)
                    && match &visible {
                        Visible::All => true,
                        Visible::OwnedBy(user) => identity.owner.as_deref() == Some(user.as_str()),
                    }
            };
            let wanted: Vec<GatewayId> = rows
                .iter()
                .filter(is_wanted)
                .map(|row| row.identity.id)
                .collect();
            let end = wanted.len();
            for from in [0, 1, end / 3, end / 2, end.saturating_sub(3), end] {
                let window = from.min(end)..(from + 10).min(end);
                let asked = window.clone();
                let listed = registry.store.list(
                    visible.clone(),
                    cluster.map(str::to_owned),
                    without.to_vec(),
                    Box::new(move |_| asked),
                );
                let (total, page) = listed.await.expect("is read");
                let page: Vec<GatewayId> = page.iter().map(|row| row.identity.id).collect();
                let what = format!("{visible:?} at {cluster:?}, {window:?} of {end}");
                assert_eq!((total, &page[..]), (end, &wanted[window]), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn what_lives_is_counted_right() {
    let registry = registry().await;
    let rows = filled(&registry).await;
    for cluster in ["c", "d", "e"] {
        let lives = |row: &&Row| {
            let open = matches!(row.known.phase, Phase::Sending | Phase::Bound { .. });
            row.identity.cluster == cluster && open && row.known.ended.is_none()
        };
        let wanted = rows.iter().filter(lives).count();
        let counted = registry.live(cluster).await.expect("is read");
        assert_eq!(usize::try_from(counted), Ok(wanted), "{cluster}");
    }
}

#[tokio::test]
async fn what_is_swept_is_counted_no_more() {
    let registry = registry().await;
    let rows = filled(&registry).await;
    let later = registry.clock().now().after(Duration::from_secs(8000));
    let swept = registry.store.sweep(Duration::from_secs(60), later);
    let swept = swept.await.expect("sweeps");
    let stays = |row: &&Row| row.known.ended.is_none() && row.known.phase.is_visible();
    let staying = rows.iter().filter(stays).count();
    assert_eq!(total(&registry).await, staying);
    assert_eq!(rows.len() - swept, staying, "nothing that is over is left");
    let again = registry.store.sweep(Duration::from_secs(60), later).await;
    assert_eq!(again.expect("sweeps"), 0);
}

#[tokio::test]
async fn the_newest_of_a_name_is_the_callers_own() {
    let registry = registry().await;
    let now = registry.clock().now();
    let list = ["ann", "bob", "bob"].iter().zip(0..);
    let list = list.map(|(user, at)| of(Some(user), at, "nightly"));
    let adopted = registry.store.adopt("c".into(), list.collect(), now, now);
    let mut last = adopted.await.expect("is stored").known.remove(2).0;
    let newest = async |visible: Visible| {
        let found = registry.store.by_name("nightly".into(), visible).await;
        found.expect("is read").map(|row| row.identity.id.0)
    };
    let own = |user: &str| Visible::OwnedBy(user.into());
    assert_eq!(newest(Visible::All).await, Some(3));
    assert_eq!(newest(own("ann")).await, Some(1));
    assert_eq!(newest(own("eve")).await, None);
    last.known.phase = Phase::Deleted { upstream_id: None };
    registry.store.save(vec![last]).await.expect("is stored");
    assert_eq!(newest(own("bob")).await, Some(2));
    assert_eq!(newest(Visible::All).await, Some(2));
}
