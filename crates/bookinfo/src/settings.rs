//! What the environment tells the services: who their neighbours are and what they are called.

use crate::Error;

/// Where the other services are and how this one presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of the details service.
    pub details: String,
    /// `host:port` of the reviews service.
    pub reviews: String,
    /// `host:port` of the ratings service.
    pub ratings: String,
    /// Whether reviews asks for ratings, where the version does not decide.
    pub ratings_enabled: Option<bool>,
    /// The colour of the stars, where the version does not decide.
    pub star_color: Option<String>,
    /// The pod's name, shown with the reviews.
    pub pod: String,
    /// The cluster's name, shown with the reviews.
    pub cluster: String,
}

impl Settings {
    /// Reads the variables of the public sample (`REVIEWS_HOSTNAME`, `SERVICES_DOMAIN`, …).
    ///
    /// # Errors
    /// If a port is not a number.
    pub fn from_env() -> Result<Self, Error> {
        let pod = variable("HOSTNAME").or_else(hostname);
        Self::from_variables(variable).map(|settings| Self {
            pod: pod.unwrap_or_default(),
            ..settings
        })
    }

    /// The same from any source of variables.
    pub(crate) fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let domain = get("SERVICES_DOMAIN")
            .map(|domain| format!(".{domain}"))
            .unwrap_or_default();
        let authority = |service: &str, host: &str, port: &'static str| {
            let host = get(host).unwrap_or_else(|| service.to_owned());
            let number = get(port).unwrap_or_else(|| "9080".to_owned());
            match number.parse::<u16>() {
                Ok(number) => Ok(format!("{host}{domain}:{number}")),
                Err(_) => Err(Error::BadSetting(number, port)),
            }
        };
        Ok(Self {
            details: authority("details", "DETAILS_HOSTNAME", "DETAILS_SERVICE_PORT")?,
            reviews: authority("reviews", "REVIEWS_HOSTNAME", "REVIEWS_SERVICE_PORT")?,
            ratings: authority("ratings", "RATINGS_HOSTNAME", "RATINGS_SERVICE_PORT")?,
            ratings_enabled: get("ENABLE_RATINGS").map(|value| value == "true"),
            star_color: get("STAR_COLOR"),
            pod: get("HOSTNAME").unwrap_or_default(),
            cluster: get("CLUSTER_NAME").unwrap_or_else(|| "null".to_owned()),
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let get = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        Settings::from_variables(get).map_err(|error| error.to_string())
    }

    #[test]
    fn neighbours_are_found_by_name_unless_told_otherwise() {
        let plain = settings(&[]).expect("defaults");
        assert_eq!(
            (plain.details.as_str(), plain.cluster.as_str()),
            ("details:9080", "null")
        );
        let other = [
            ("SERVICES_DOMAIN", "shop"),
            ("REVIEWS_HOSTNAME", "opinions"),
            ("RATINGS_SERVICE_PORT", "81"),
        ];
        let other = settings(&other).expect("valid");
        assert_eq!(
            (other.reviews.as_str(), other.ratings.as_str()),
            ("opinions.shop:9080", "ratings.shop:81")
        );
        let error =
            settings(&[("DETAILS_SERVICE_PORT", "tcp://10.0.0.1:9080")]).expect_err("not a port");
        assert!(error.contains("DETAILS_SERVICE_PORT"), "{error}");
    }
}
