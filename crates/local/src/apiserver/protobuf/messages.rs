//! The fields of the messages that are read, by their numbers in Kubernetes' `generated.proto` files.

/// How a field is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Texts,
    /// Zero stands for unset.
    Number,
    /// Zero stands for zero.
    PresentNumber,
    Flag,
    /// False stands for false.
    PresentFlag,
    TextMap,
    BytesMap,
    QuantityMap,
    IntOrString,
    Time,
    Message(&'static str),
    Messages(&'static str),
    /// A message whose members JSON has among those of its holder.
    Inline(&'static str),
}

/// One field of a message.
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const fn f(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

use Kind::{
    BytesMap, Flag, Inline, IntOrString, Message, Messages, Number, PresentFlag, PresentNumber,
    QuantityMap, Text, TextMap, Texts, Time,
};

const META: Field = f(1, "metadata", Message("ObjectMeta"));

type Row = (&'static str, &'static [Field]);

#[rustfmt::skip]
const MESSAGES: &[Row] = &[
    ("ObjectMeta", &[
            f(1, "name", Text), f(2, "generateName", Text), f(3, "namespace", Text), f(4, "selfLink", Text),
            f(5, "uid", Text), f(6, "resourceVersion", Text), f(7, "generation", Number),
            f(8, "creationTimestamp", Time), f(9, "deletionTimestamp", Time),
            f(11, "labels", TextMap), f(12, "annotations", TextMap), f(14, "finalizers", Texts),
        ]),
    ("Namespace", &[META, f(2, "spec", Message("NamespaceSpec"))]),
    ("NamespaceSpec", &[f(1, "finalizers", Texts)]),
    ("ServiceAccount", &[META, f(4, "automountServiceAccountToken", PresentFlag)]),
    ("ConfigMap", &[META, f(2, "data", TextMap), f(3, "binaryData", BytesMap), f(4, "immutable", PresentFlag)]),
    ("Secret", &[
            META, f(2, "data", BytesMap), f(3, "type", Text), f(4, "stringData", TextMap), f(5, "immutable", PresentFlag),
        ]),
    ("Role", &[META, f(2, "rules", Messages("PolicyRule"))]),
    ("ClusterRole", &[META, f(2, "rules", Messages("PolicyRule"))]),
    ("PolicyRule", &[
            f(1, "verbs", Texts), f(2, "apiGroups", Texts), f(3, "resources", Texts), f(4, "resourceNames", Texts),
            f(5, "nonResourceURLs", Texts),
        ]),
    ("RoleBinding", &[META, f(2, "subjects", Messages("Subject")), f(3, "roleRef", Message("RoleRef"))]),
    ("ClusterRoleBinding", &[META, f(2, "subjects", Messages("Subject")), f(3, "roleRef", Message("RoleRef"))]),
    ("Subject", &[f(1, "kind", Text), f(2, "apiGroup", Text), f(3, "name", Text), f(4, "namespace", Text)]),
    ("RoleRef", &[f(1, "apiGroup", Text), f(2, "kind", Text), f(3, "name", Text)]),
    ("TokenRequest", &[META, f(2, "spec", Message("TokenRequestSpec"))]),
    ("TokenRequestSpec", &[
            f(1, "audiences", Texts), f(3, "boundObjectRef", Message("BoundObject")), f(4, "expirationSeconds", PresentNumber),
        ]),
    ("BoundObject", &[f(1, "kind", Text), f(2, "apiVersion", Text), f(3, "name", Text), f(4, "uid", Text)]),
    ("TokenReview", &[META, f(2, "spec", Message("TokenReviewSpec"))]),
    ("TokenReviewSpec", &[f(1, "token", Text), f(2, "audiences", Texts)]),
    ("SelfSubjectReview", &[META]),
    ("SelfSubjectAccessReview", &[META, f(2, "spec", Message("AccessSpec"))]),
    ("AccessSpec", &[
            f(1, "resourceAttributes", Message("ResourceAttributes")), f(2, "nonResourceAttributes", Message("PathAttributes")),
        ]),
    ("ResourceAttributes", &[
            f(1, "namespace", Text), f(2, "verb", Text), f(3, "group", Text), f(4, "version", Text), f(5, "resource", Text),
            f(6, "subresource", Text), f(7, "name", Text),
        ]),
    ("PathAttributes", &[f(1, "path", Text), f(2, "verb", Text)]),
    ("SelfSubjectRulesReview", &[META, f(2, "spec", Message("RulesSpec"))]),
    ("RulesSpec", &[f(1, "namespace", Text)]),
    ("Eviction", &[META, f(2, "deleteOptions", Message("DeleteOptions"))]),
    ("DeleteOptions", &[
            f(1, "gracePeriodSeconds", PresentNumber), f(2, "preconditions", Message("Preconditions")),
            f(3, "orphanDependents", PresentFlag), f(4, "propagationPolicy", Text), f(5, "dryRun", Texts),
        ]),
    ("Preconditions", &[f(1, "uid", Text), f(2, "resourceVersion", Text)]),
    ("Service", &[META, f(2, "spec", Message("ServiceSpec"))]),
    ("ServiceSpec", &[
            f(1, "ports", Messages("ServicePort")), f(2, "selector", TextMap), f(3, "clusterIP", Text), f(4, "type", Text),
            f(5, "externalIPs", Texts), f(7, "sessionAffinity", Text), f(10, "externalName", Text),
        ]),
    ("ServicePort", &[
            f(1, "name", Text), f(2, "protocol", Text), f(3, "port", Number), f(4, "targetPort", IntOrString), f(5, "nodePort", Number),
            f(6, "appProtocol", Text),
        ]),
    ("Deployment", &[META, f(2, "spec", Message("DeploymentSpec"))]),
    ("DeploymentSpec", &[
            f(1, "replicas", PresentNumber), f(2, "selector", Message("Selector")), f(3, "template", Message("PodTemplate")),
            f(5, "minReadySeconds", Number),
        ]),
    ("Selector", &[f(1, "matchLabels", TextMap)]),
    ("PodTemplate", &[META, f(2, "spec", Message("PodSpec"))]),
    ("PodSpec", &[
            f(2, "containers", Messages("Container")), f(3, "restartPolicy", Text), f(7, "nodeSelector", TextMap),
            f(8, "serviceAccountName", Text), f(10, "nodeName", Text),
        ]),
    ("Container", &[
            f(1, "name", Text), f(2, "image", Text), f(3, "command", Texts), f(4, "args", Texts), f(5, "workingDir", Text),
            f(6, "ports", Messages("ContainerPort")), f(7, "env", Messages("Variable")), f(8, "resources", Message("Resources")),
            f(14, "imagePullPolicy", Text), f(16, "stdin", Flag), f(17, "stdinOnce", Flag), f(18, "tty", Flag),
        ]),
    ("ContainerPort", &[f(1, "name", Text), f(2, "hostPort", Number), f(3, "containerPort", Number), f(4, "protocol", Text), f(5, "hostIP", Text)]),
    ("Variable", &[f(1, "name", Text), f(2, "value", Text)]),
    ("Resources", &[f(1, "limits", QuantityMap), f(2, "requests", QuantityMap)]),
    ("Job", &[META, f(2, "spec", Message("JobSpec"))]),
    ("JobSpec", &[
            f(1, "parallelism", PresentNumber), f(2, "completions", PresentNumber), f(6, "template", Message("PodTemplate")),
            f(7, "backoffLimit", PresentNumber),
        ]),
    ("Ingress", &[META, f(2, "spec", Message("IngressSpec"))]),
    ("IngressSpec", &[
            f(1, "defaultBackend", Message("IngressBackend")), f(2, "tls", Messages("IngressTLS")),
            f(3, "rules", Messages("IngressRule")), f(4, "ingressClassName", Text),
        ]),
    ("IngressBackend", &[f(4, "service", Message("IngressService"))]),
    ("IngressService", &[f(1, "name", Text), f(2, "port", Message("IngressPort"))]),
    ("IngressPort", &[f(1, "name", Text), f(2, "number", Number)]),
    ("IngressTLS", &[f(1, "hosts", Texts), f(2, "secretName", Text)]),
    ("IngressRule", &[f(1, "host", Text), f(2, "", Inline("IngressRuleValue"))]),
    ("IngressRuleValue", &[f(1, "http", Message("IngressPaths"))]),
    ("IngressPaths", &[f(1, "paths", Messages("IngressPath"))]),
    ("IngressPath", &[f(1, "path", Text), f(2, "backend", Message("IngressBackend")), f(3, "pathType", Text)]),
    ("PodDisruptionBudget", &[META, f(2, "spec", Message("BudgetSpec"))]),
    ("BudgetSpec", &[f(1, "minAvailable", IntOrString), f(2, "selector", Message("Selector")), f(3, "maxUnavailable", IntOrString)]),
];

/// The fields of a message.
pub(super) fn message(name: &str) -> Option<&'static [Field]> {
    MESSAGES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, fields)| *fields)
}
