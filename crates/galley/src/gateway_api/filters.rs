//! Filters of HTTP and gRPC routes.

use std::collections::BTreeMap;

use lateen_api::{
    Duration,
    gateway_api::{
        HttpCorsFilter, HttpHeaderFilter, HttpHeaderValue, HttpPathModifier,
        HttpRequestMirrorFilter, HttpRequestRedirectFilter, HttpRouteFilter, HttpUrlRewriteFilter,
        PathModifierType,
    },
    networking::{
        CorsPolicy, HeaderOperations, Headers, HttpDirectResponse, HttpMatchRequest,
        HttpMirrorPolicy, HttpRedirect, HttpRewrite, HttpRoute, Percent, RegexRewrite, StringMatch,
        UnmatchedPreflights,
    },
};

use super::{Around, backend::End, conditions::Verdict, routes::Findings};

/// Where requests arrive, on which redirects depend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) port: u32,
    pub(super) https: bool,
}

impl Place {
    /// Where clients in the mesh are.
    pub(super) const MESH: Place = Place {
        port: 80,
        https: false,
    };
}

/// The filters of a rule, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters<'a> {
    headers: Option<Headers>,
    mirrors: Vec<HttpMirrorPolicy>,
    redirect: Option<&'a HttpRequestRedirectFilter>,
    rewrite: Option<&'a HttpUrlRewriteFilter>,
    cors: Option<CorsPolicy>,
    /// A filter that is not there must not be passed by.
    broken: bool,
}

impl<'a> Filters<'a> {
    pub(super) fn read(
        around: Around<'_>,
        from: End<'_>,
        filters: &'a [HttpRouteFilter],
        findings: &mut Findings,
    ) -> Self {
        let mut out = Self::default();
        for filter in filters {
            if let Some(of) = &filter.request_header_modifier {
                let headers = out.headers.get_or_insert_default();
                headers.request = Some(operations(of));
            }
            if let Some(of) = &filter.response_header_modifier {
                let headers = out.headers.get_or_insert_default();
                headers.response = Some(operations(of));
            }
            if let Some(of) = &filter.request_mirror {
                match mirror(around, from, of, findings) {
                    Ok(mirror) => out.mirrors.push(mirror),
                    Err(verdict) => findings.unresolved(verdict),
                }
            }
            out.redirect = out.redirect.or(filter.request_redirect.as_ref());
            out.rewrite = out.rewrite.or(filter.url_rewrite.as_ref());
            if let Some(of) = &filter.cors {
                out.cors = Some(cors(of));
            }
            out.check(filter, findings);
        }
        if out.redirect.is_some() && out.rewrite.is_some() {
            findings.refused(Verdict::new(
                "IncompatibleFilters",
                "a rule cannot both redirect and rewrite",
            ));
        }
        out
    }

    fn check(&mut self, filter: &HttpRouteFilter, findings: &mut Findings) {
        match filter.r#type.as_str() {
            "RequestHeaderModifier"
            | "ResponseHeaderModifier"
            | "RequestMirror"
            | "RequestRedirect"
            | "URLRewrite"
            | "CORS" => {}
            "ExtensionRef" => {
                self.broken = true;
                let of = filter.extension_ref.as_ref();
                let name = of.map_or("", |of| of.kind.as_str());
                let message = format!("filter {name:?} of ExtensionRef is not supported");
                findings.unresolved(Verdict::new("InvalidKind", message));
            }
            other => findings.refused(Verdict::new(
                "UnsupportedValue",
                format!("filter {other} is not supported"),
            )),
        }
    }

    /// The filters of one backend, of which only header changes are for it alone.
    pub(super) fn headers_only(
        filters: &[HttpRouteFilter],
        findings: &mut Findings,
    ) -> Option<Headers> {
        let mut headers = None::<Headers>;
        for filter in filters {
            match filter.r#type.as_str() {
                "RequestHeaderModifier" | "ResponseHeaderModifier" => {
                    let headers = headers.get_or_insert_default();
                    if let Some(of) = &filter.request_header_modifier {
                        headers.request = Some(operations(of));
                    }
                    if let Some(of) = &filter.response_header_modifier {
                        headers.response = Some(operations(of));
                    }
                }
                other => findings.refused(Verdict::new(
                    "UnsupportedValue",
                    format!("filter {other} of a backend is not supported, only of a rule"),
                )),
            }
        }
        headers
    }

    /// The rule for one match: mostly one, but two where a prefix is replaced by nothing, since the
    /// slash after it must go as well.
    pub(super) fn apply(
        &self,
        base: &HttpRoute,
        request: HttpMatchRequest,
        place: Place,
    ) -> Vec<HttpRoute> {
        let mut route = base.clone();
        route.headers.clone_from(&self.headers);
        route.mirrors.clone_from(&self.mirrors);
        route.cors_policy.clone_from(&self.cors);
        if self.broken {
            route.route.clear();
            route.fault = None;
            route.direct_response = Some(HttpDirectResponse {
                status: 500,
                body: None,
            });
        } else if let Some(of) = self.redirect {
            return redirects(route, request, of, place);
        } else if let Some(of) = self.rewrite
            && route.direct_response.is_none()
        {
            route.rewrite = Some(rewrite(of, request.uri.as_ref()));
        }
        route.r#match = vec![request];
        vec![route]
    }
}

fn operations(of: &HttpHeaderFilter) -> HeaderOperations {
    let values = |list: &[HttpHeaderValue]| -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for header in list {
            all.entry(header.name.clone())
                .or_insert_with(|| header.value.clone());
        }
        all
    };
    HeaderOperations {
        set: values(&of.set),
        add: values(&of.add),
        remove: of.remove.clone(),
    }
}

fn mirror(
    around: Around<'_>,
    from: End<'_>,
    of: &HttpRequestMirrorFilter,
    findings: &mut Findings,
) -> Result<HttpMirrorPolicy, Verdict> {
    let to = of.backend_ref.clone().unwrap_or_default();
    let share = match (&of.percent, &of.fraction) {
        (Some(percent), _) => Some(f64::from(*percent)),
        (None, Some(of)) => {
            let whole = of.denominator.unwrap_or(100).max(1);
            Some(f64::from(of.numerator) * 100.0 / f64::from(whole))
        }
        (None, None) => None,
    };
    Ok(HttpMirrorPolicy {
        destination: Some(findings.backend(around, from, &to)?),
        percentage: share.map(|value| Percent { value }),
    })
}

fn cors(of: &HttpCorsFilter) -> CorsPolicy {
    let origin = |text: &String| match text.split_once('*') {
        None => StringMatch::Exact(text.clone()),
        Some(("", "")) => StringMatch::Regex(".*".into()),
        Some((before, behind)) => StringMatch::Regex(format!(
            "{}[^/]*{}",
            regex::escape(before),
            regex::escape(behind)
        )),
    };
    CorsPolicy {
        allow_origins: of.allow_origins.iter().map(origin).collect(),
        allow_methods: of.allow_methods.clone(),
        allow_headers: of.allow_headers.clone(),
        expose_headers: of.expose_headers.clone(),
        max_age: Some(Duration::from_secs(of.max_age.map_or(5, i64::from))),
        allow_credentials: of.allow_credentials,
        unmatched_preflights: UnmatchedPreflights::Ignore,
        ..CorsPolicy::default()
    }
}

/// The prefix that a modifier replaces, and by what, both without a slash at the end.
fn prefix<'a>(
    of: &'a HttpPathModifier,
    path: Option<&'a StringMatch>,
) -> Option<(&'a str, &'a str)> {
    let by = of.replace_prefix_match.as_deref()?.trim_end_matches('/');
    match path {
        Some(StringMatch::Prefix(prefix)) => Some((prefix.trim_end_matches('/'), by)),
        _ => None,
    }
}

fn rewrite(of: &HttpUrlRewriteFilter, path: Option<&StringMatch>) -> HttpRewrite {
    let mut out = HttpRewrite {
        authority: of.hostname.clone().unwrap_or_default(),
        ..HttpRewrite::default()
    };
    let Some(modifier) = &of.path else {
        return out;
    };
    if modifier.r#type == PathModifierType::ReplaceFullPath {
        let by = modifier.replace_full_path.as_deref().unwrap_or("/");
        out.uri_regex_rewrite = Some(RegexRewrite {
            r#match: "/.*".into(),
            rewrite: literal(by),
        });
    } else if let Some((prefix, by)) = prefix(modifier, path) {
        if prefix.is_empty() || by.is_empty() {
            // The slash between both parts is not doubled, nor lost.
            out.uri_regex_rewrite = Some(RegexRewrite {
                r#match: format!("^{}/?(.*)", regex::escape(prefix)),
                rewrite: format!("{}/\\1", literal(by)),
            });
        } else {
            out.uri = by.to_owned();
        }
    }
    out
}

/// A text that stands for itself in a substitution.
fn literal(text: &str) -> String {
    text.replace('\\', "\\\\")
}

fn redirects(
    mut route: HttpRoute,
    request: HttpMatchRequest,
    of: &HttpRequestRedirectFilter,
    place: Place,
) -> Vec<HttpRoute> {
    let own = if place.https { "https" } else { "http" };
    let scheme = of.scheme.as_deref().unwrap_or(own);
    let known = if scheme == "https" { 443 } else { 80 };
    let asked = if of.scheme.is_some() {
        known
    } else {
        place.port
    };
    let port = Some(of.port.unwrap_or(asked)).filter(|port| *port != known);
    let mut redirect = HttpRedirect {
        scheme: of.scheme.clone().unwrap_or_default(),
        authority: of.hostname.clone().unwrap_or_default(),
        port,
        redirect_code: Some(of.status_code.map_or(302, i32::unsigned_abs)),
        ..HttpRedirect::default()
    };
    route.route.clear();
    route.direct_response = None;
    route.fault = None;
    route.mirrors.clear();
    route.retries = None;
    route.timeout = None;
    let with = |redirect: &HttpRedirect, request: HttpMatchRequest| {
        let mut route = route.clone();
        route.redirect = Some(redirect.clone());
        route.r#match = vec![request];
        route
    };
    let Some(modifier) = &of.path else {
        return vec![with(&redirect, request)];
    };
    if modifier.r#type == PathModifierType::ReplaceFullPath {
        redirect.uri = modifier.replace_full_path.clone().unwrap_or("/".into());
        return vec![with(&redirect, request)];
    }
    let path = request.uri.clone();
    let Some((prefix, by)) = prefix(modifier, path.as_ref()) else {
        return vec![with(&redirect, request)];
    };
    if !prefix.is_empty() && !by.is_empty() {
        redirect.prefix_rewrite = Some(by.to_owned());
        return vec![with(&redirect, request)];
    }
    let slashed = |text: &str| format!("{text}/");
    let mut whole = request.clone();
    let mut below = request;
    below.uri = Some(StringMatch::Prefix(slashed(prefix)));
    redirect.prefix_rewrite = Some(slashed(by));
    let below = with(&redirect, below);
    if prefix.is_empty() {
        return vec![below];
    }
    whole.uri = Some(StringMatch::Exact(prefix.to_owned()));
    redirect.prefix_rewrite = None;
    redirect.uri = slashed(by);
    vec![with(&redirect, whole), below]
}
