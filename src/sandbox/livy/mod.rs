//! Doubles of Apache Livy 0.7.1, bare, behind Knox 2.0.0 and behind HDInsight: CSRF protection on,
//! impersonation off.
//!
//! What they answer is compared with recordings of the real ones, and with the real ones
//! themselves, in the tests.

mod bare;
mod create;
mod front;
mod key;
mod shape;

use livy_dialect::Flavor;

use super::asked::Asked;
use super::double::Double;
use super::told::Told;

pub(super) fn answer(double: &Double, asked: &Asked) -> Told {
    match double.flavor {
        Flavor::Knox => front::knox(double, asked),
        Flavor::Hdinsight => front::hdinsight(double, asked),
        _ => bare::livy(double, asked),
    }
}
