//! The profiles: installations to begin with.

use lateen_api::shape::suggestion;
use serde_json::Value;

use crate::{InstallError, merge::merge};

/// What all others change.
pub const DEFAULT: &str = "default";

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        /// The profiles' names, in the order of the alphabet.
        pub const NAMES: &[&str] = &[$($name),*];

        fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../profiles/", $name, ".yaml"))),)*
                _ => None,
            }
        }
    };
}

profiles![
    "ambient",
    "default",
    "demo",
    "empty",
    "external",
    "minimal",
    "openshift",
    "preview",
    "remote",
];

/// A profile as a whole: what it changes laid over the default one.
pub fn profile(name: &str) -> Result<Value, InstallError> {
    let mut whole = document(DEFAULT)?;
    if name != DEFAULT {
        merge(&mut whole, &document(name)?);
    }
    // The name comes first, for whoever reads it.
    if let Some(spec) = whole["spec"].as_object_mut() {
        spec.shift_insert(0, "profile".to_owned(), Value::from(name));
    }
    Ok(whole)
}

fn document(name: &str) -> Result<Value, InstallError> {
    let text = text(name).ok_or_else(|| InstallError::Profile {
        name: name.to_owned(),
        help: suggestion(name, NAMES),
    })?;
    Ok(serde_saphyr::from_str(text).expect("profiles are YAML, which a test sees to"))
}

#[cfg(test)]
mod tests {
    use lateen_api::{
        Schema,
        fault::{Faults, Path},
        install::{IstioOperator, Values},
        shape,
    };

    use super::*;

    #[test]
    fn profiles_say_only_what_is_known() {
        for name in NAMES {
            let whole = profile(name).expect("a profile");
            let spec = &whole["spec"];
            let mut faults = Faults::default();
            shape::check(
                spec,
                &IstioOperator::schema(),
                &Path::root("spec"),
                &mut faults,
            );
            let values = Path::root("spec.values");
            shape::check(&spec["values"], &Values::schema(), &values, &mut faults);
            assert_eq!(faults.0, [], "{name}");
        }
    }

    #[test]
    fn a_profile_that_is_not_there_is_told_with_the_nearest() {
        let message = |name| profile(name).expect_err("refused").to_string();
        assert_eq!(
            message("defualt"),
            "there is no profile \"defualt\"; did you mean default?"
        );
        assert!(message("x").contains("known here: ambient, default, demo,"));
    }

    #[test]
    fn a_profile_changes_the_default() {
        let demo = profile("demo").expect("a profile");
        assert_eq!(
            demo["spec"]["components"]["egressGateways"][0]["enabled"],
            true
        );
        let proxy = &demo["spec"]["values"]["global"]["proxy"];
        assert_eq!(proxy["resources"]["requests"]["cpu"], "10m");
        assert_eq!(proxy["resources"]["limits"]["cpu"], "2000m");
    }
}
