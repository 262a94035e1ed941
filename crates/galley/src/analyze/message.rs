//! What analysis has to say: codes, names and levels are Istio's, the words are ours.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something does not do what it looks like.
    Warning,
    /// Something does not work.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Info => "Info",
            Level::Warning => "Warning",
            Level::Error => "Error",
        })
    }
}

/// Declares the codes: name, number, level.
macro_rules! codes {
    ($($name:ident = $number:literal, $level:ident;)*) => {
        /// What a message is about, by Istio's name of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = concat!("IST", stringify!($number))] $name = $number,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// Istio's name: `ReferencedResourceNotFound`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$name => stringify!($name),)*
                }
            }

            /// How bad it is.
            pub const fn level(self) -> Level {
                match self {
                    $(Code::$name => Level::$level,)*
                }
            }
        }
    };
}

codes! {
    InternalError = 1, Error;
    Deprecated = 2, Warning;
    ReferencedResourceNotFound = 101, Error;
    NamespaceNotInjected = 102, Info;
    PodMissingProxy = 103, Warning;
    SchemaValidationError = 106, Error;
    MisplacedAnnotation = 107, Warning;
    UnknownAnnotation = 108, Warning;
    ConflictingMeshGatewayVirtualServiceHosts = 109, Error;
    ConflictingSidecarWorkloadSelectors = 110, Error;
    MultipleSidecarsWithoutWorkloadSelectors = 111, Error;
    VirtualServiceDestinationPortSelectorRequired = 112, Error;
    DeploymentAssociatedToMultipleServices = 116, Warning;
    PortNameIsNotUnderNamingConvention = 118, Info;
    NamespaceMultipleInjectionLabels = 123, Warning;
    InvalidAnnotation = 125, Warning;
    UnknownMeshNetworksServiceRegistry = 126, Error;
    NoMatchingWorkloadsFound = 127, Warning;
    NoServerCertificateVerificationDestinationLevel = 128, Warning;
    NoServerCertificateVerificationPortLevel = 129, Warning;
    VirtualServiceUnreachableRule = 130, Warning;
    VirtualServiceIneffectiveMatch = 131, Info;
    VirtualServiceHostNotFoundInGateway = 132, Warning;
    SchemaWarning = 133, Warning;
    ServiceEntryAddressesRequired = 134, Warning;
    DeprecatedAnnotation = 135, Info;
    AlphaAnnotation = 136, Info;
    DeploymentConflictingPorts = 137, Warning;
    GatewayDuplicateCertificate = 138, Warning;
    InvalidWebhook = 139, Error;
    IngressRouteRulesNotAffected = 140, Warning;
    InsufficientPermissions = 141, Error;
    UnsupportedKubernetesVersion = 142, Error;
    InvalidApplicationUID = 144, Warning;
    ConflictingGateways = 145, Error;
    ImageAutoWithoutInjectionWarning = 146, Warning;
    ImageAutoWithoutInjectionError = 147, Error;
    NamespaceInjectionEnabledByDefault = 148, Info;
    JwtClaimBasedRoutingWithoutRequestAuthN = 149, Error;
    ExternalNameServiceTypeInvalidPortName = 150, Warning;
    EnvoyFilterUsesRelativeOperation = 151, Warning;
    EnvoyFilterUsesReplaceOperationIncorrectly = 152, Error;
    EnvoyFilterUsesAddOperationIncorrectly = 153, Error;
    EnvoyFilterUsesRemoveOperationIncorrectly = 154, Error;
    EnvoyFilterUsesRelativeOperationWithProxyVersion = 155, Warning;
    UnsupportedGatewayAPIVersion = 156, Error;
    InvalidTelemetryProvider = 157, Warning;
    PodsIstioProxyImageMismatchInNamespace = 158, Warning;
    ConflictingTelemetryWorkloadSelectors = 159, Error;
    MultipleTelemetriesWithoutWorkloadSelectors = 160, Error;
    InvalidGatewayCredential = 161, Error;
    GatewayPortNotDefinedOnService = 162, Warning;
    InvalidExternalControlPlaneConfig = 163, Warning;
    ExternalControlPlaneAddressIsNotAHostname = 164, Info;
    ReferencedInternalGateway = 165, Warning;
    IneffectiveSelector = 166, Warning;
    IneffectivePolicy = 167, Warning;
    UnknownUpgradeCompatibility = 168, Warning;
    UpdateIncompatibility = 169, Warning;
    MultiClusterInconsistentService = 170, Warning;
    NegativeConditionStatus = 171, Warning;
    DestinationRuleSubsetNotSelectPods = 173, Error;
    UnknownDestinationRuleHost = 174, Warning;
    JwksUriFetchUnrestricted = 175, Warning;
    GatewayAPICRDVersionBelowMinimum = 176, Warning;
    ConflictingServiceEntryProtocol = 177, Warning;
}

impl fmt::Display for Code {
    /// `IST0101`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IST{:04}", *self as u16)
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let same = |code: &&Code| code.to_string().eq_ignore_ascii_case(text);
        let found = Code::ALL.iter().find(same);
        found.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// A text that is no code.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no code of a message that this analysis has; codes look like IST0101")]
pub struct UnknownCode(String);

/// One thing about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is about.
    pub code: Code,
    /// In words.
    pub text: String,
    /// The API group of the object; empty for what is no object of its own, too.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where in the object; empty for the whole of it.
    pub field: String,
    /// `file:line`, where it stands in a file.
    pub reference: Option<String>,
}

impl Message {
    /// Of the cluster as a whole.
    pub fn of_cluster(code: Code, text: String) -> Message {
        Message {
            code,
            text,
            group: String::new(),
            kind: "Cluster".to_owned(),
            namespace: String::new(),
            name: String::new(),
            field: String::new(),
            reference: None,
        }
    }

    /// `VirtualService default/reviews`.
    pub fn origin(&self) -> String {
        let Message {
            kind,
            namespace,
            name,
            ..
        } = self;
        match (namespace.as_str(), name.as_str()) {
            ("", "") => kind.clone(),
            ("", _) => format!("{kind} {name}"),
            _ => format!("{kind} {namespace}/{name}"),
        }
    }

    /// The public page that says more.
    pub fn documentation_url(&self) -> String {
        let code = self.code.to_string().to_ascii_lowercase();
        format!("https://istio.io/latest/docs/reference/config/analysis/{code}/")
    }

    /// As `istioctl analyze -o json` has it.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "code": self.code.to_string(),
            "documentationUrl": self.documentation_url(),
            "level": self.code.level().to_string(),
            "message": self.text,
            "origin": self.origin(),
        });
        if let Some(reference) = &self.reference {
            json["reference"] = reference.as_str().into();
        }
        json
    }
}

impl fmt::Display for Message {
    /// As `istioctl analyze` has it: `Error [IST0101] (VirtualService default/a f.yaml:12) text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { code, text, .. } = self;
        let (level, origin) = (code.level(), self.origin());
        match &self.reference {
            Some(at) => write!(f, "{level} [{code}] ({origin} {at}) {text}"),
            None => write!(f, "{level} [{code}] ({origin}) {text}"),
        }
    }
}
