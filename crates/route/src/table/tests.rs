use std::borrow::Cow;

use crate::*;

struct Request {
    authority: &'static str,
    method: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static [u8])>,
}

impl RequestView for Request {
    fn authority(&self) -> &str {
        self.authority
    }
    fn method(&self) -> &str {
        self.method
    }
    fn scheme(&self) -> &'static str {
        "http"
    }
    fn path(&self) -> &str {
        self.target.split('?').next().expect("split yields one")
    }
    fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let found = self.headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| Cow::Borrowed(*value))
    }
}

fn get(authority: &'static str, target: &'static str) -> Request {
    Request {
        authority,
        method: "GET",
        target,
        headers: Vec::new(),
    }
}

fn host(name: &str, domains: &[&str], routes: Vec<RouteSpec<()>>) -> VirtualHostSpec<()> {
    VirtualHostSpec {
        name: name.to_owned(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes,
        headers: HeaderMutations::default(),
        include_attempt_count: false,
        require_tls: false,
        extra: (),
    }
}

fn route(name: &str, matches: RouteMatch) -> RouteSpec<()> {
    RouteSpec {
        name: name.to_owned(),
        matches,
        action: Action::Direct(DirectResponse::default()),
        headers: HeaderMutations::default(),
        extra: (),
    }
}

fn table(hosts: Vec<VirtualHostSpec<()>>, ignore_port: bool) -> Result<RouteTable<()>, RouteError> {
    let headers = HeaderMutations::default();
    RouteTable::new(RouteConfig {
        name: "t".to_owned(),
        hosts,
        ignore_port,
        headers,
    })
}

#[test]
fn domains_by_precedence() {
    let hosts = vec![
        host("exact", &["reviews", "Reviews.default:9080"], vec![]),
        host("suffix", &["*.example.com", "*-dev.example.com"], vec![]),
        host("longer", &["*.api.example.com"], vec![]),
        host("prefix", &["shop.*"], vec![]),
        host("any", &["*"], vec![]),
    ];
    let strict = table(hosts.clone(), false).expect("compiles");
    let loose = table(hosts, true).expect("compiles");
    let check = |table: &RouteTable<()>, authority: &str, expect: &str| {
        assert_eq!(
            table.host(authority).expect("any").name,
            expect,
            "{authority}"
        );
    };
    check(&strict, "reviews", "exact");
    check(&strict, "REVIEWS", "exact");
    check(&strict, "reviews:9080", "any");
    check(&loose, "reviews:9080", "exact");
    check(&loose, "[::1]:80", "any");
    check(&strict, "a.example.com", "suffix");
    check(&strict, "a.api.example.com", "longer");
    check(&strict, ".example.com", "any");
    check(&strict, "shop.org", "prefix");
    check(&strict, "shop.example.com", "suffix");
}

#[test]
fn hosts_are_shared_between_tables_and_so_is_what_finds_them() {
    let compile = |spec| std::sync::Arc::new(Host::new(spec).expect("compiles"));
    let (a, b) = (host("a", &["a"], vec![]), host("b", &["b", "*"], vec![]));
    let before = table(vec![a, b], true).expect("compiles");
    let changed = route("new", RouteMatch::prefix("/"));
    let changed = compile(host("a", &["a"], vec![changed]));
    let kept = before.hosts()[1].clone();
    let after = before
        .with_hosts(vec![changed, kept.clone()])
        .expect("compiles");
    assert_eq!(after.host("A:80").expect("a").routes.len(), 1);
    assert!(std::ptr::eq(after.host("x").expect("any"), &*kept));
    assert!(before.host("a").expect("a").routes.is_empty());

    let moved = compile(host("c", &["a"], vec![]));
    let after = after
        .with_hosts(vec![kept.clone(), moved.clone()])
        .expect("compiles");
    assert_eq!(after.host("a").expect("c").name, "c");
    let twice = after.with_hosts(vec![moved.clone(), kept, moved]);
    assert!(matches!(twice, Err(RouteError::DuplicateDomain { .. })));
}

#[test]
fn faults_are_named() {
    let twice = vec![host("a", &["x"], vec![]), host("b", &["X"], vec![])];
    let error = table(twice, false).expect_err("duplicate").to_string();
    assert_eq!(
        error,
        r#"virtual host "b": domain "x" is already taken by "a""#
    );
    let error = table(vec![host("a", &["a*b*"], vec![])], false).expect_err("pattern");
    assert!(matches!(error, RouteError::Domain { .. }));
    let regex = RouteMatch {
        path: PathMatch::Regex("(".into()),
        ..RouteMatch::prefix("")
    };
    let error = table(vec![host("a", &["*"], vec![route("r", regex)])], false).expect_err("regex");
    assert!(matches!(error, RouteError::Regex { .. }));
}

#[test]
fn conditions() {
    let path = |path: PathMatch| RouteMatch {
        path,
        ..RouteMatch::prefix("")
    };
    let header = |name: &str, test: HeaderMatch, invert: bool, empty: bool| RouteMatch {
        headers: vec![HeaderTest::new(name, test, invert, empty).expect("compiles")],
        ..RouteMatch::prefix("/")
    };
    let value = |test: StringMatch| HeaderMatch::Value {
        test,
        ignore_case: false,
    };
    let with = |name, text: &'static str| Request {
        headers: vec![(name, text.as_bytes())],
        ..get("h", "/")
    };
    let check = |line: u32, matches: RouteMatch, request: &Request, expect: bool| {
        let matcher = Matcher::new(matches).expect("compiles");
        assert_eq!(matcher.matches(request, 0), expect, "line {line}");
    };
    check(
        line!(),
        path(PathMatch::Exact("/a".into())),
        &get("h", "/a?x=1"),
        true,
    );
    check(
        line!(),
        path(PathMatch::Exact("/a".into())),
        &get("h", "/a/"),
        false,
    );
    check(
        line!(),
        path(PathMatch::Prefix("/a".into())),
        &get("h", "/ab"),
        true,
    );
    check(
        line!(),
        path(PathMatch::SeparatedPrefix("/a".into())),
        &get("h", "/ab"),
        false,
    );
    check(
        line!(),
        path(PathMatch::SeparatedPrefix("/a".into())),
        &get("h", "/a/b"),
        true,
    );
    check(
        line!(),
        path(PathMatch::SeparatedPrefix("/a".into())),
        &get("h", "/a?b"),
        true,
    );
    check(
        line!(),
        path(PathMatch::Regex("/[0-9]+".into())),
        &get("h", "/12?b"),
        true,
    );
    check(
        line!(),
        path(PathMatch::Regex("/[0-9]+".into())),
        &get("h", "/12/b"),
        false,
    );
    check(
        line!(),
        path(PathMatch::Regex("/a|/b".into())),
        &get("h", "/abc"),
        false,
    );
    let folded = RouteMatch {
        ignore_case: true,
        ..path(PathMatch::Prefix("/Api".into()))
    };
    check(line!(), folded, &get("h", "/aPI/x"), true);

    let exact = || value(StringMatch::Exact("jason".into()));
    check(
        line!(),
        header("end-user", exact(), false, false),
        &with("end-user", "jason"),
        true,
    );
    check(
        line!(),
        header("End-User", exact(), false, false),
        &with("end-user", "jason"),
        true,
    );
    check(
        line!(),
        header("end-user", exact(), false, false),
        &get("h", "/"),
        false,
    );
    check(
        line!(),
        header("end-user", exact(), true, false),
        &get("h", "/"),
        false,
    );
    check(
        line!(),
        header("end-user", exact(), true, true),
        &get("h", "/"),
        true,
    );
    check(
        line!(),
        header("end-user", exact(), true, false),
        &with("end-user", "x"),
        true,
    );
    let regex = || value(StringMatch::Regex("^(.*?;)?(user=jason)(;.*)?$".into()));
    check(
        line!(),
        header("cookie", regex(), false, false),
        &with("cookie", "a=b;user=jason"),
        true,
    );
    check(
        line!(),
        header("n", HeaderMatch::Range(1, 3), false, false),
        &with("n", "2"),
        true,
    );
    check(
        line!(),
        header("n", HeaderMatch::Range(1, 3), false, false),
        &with("n", "3"),
        false,
    );
    check(
        line!(),
        header("n", HeaderMatch::Present(true), true, false),
        &get("h", "/"),
        true,
    );
    check(
        line!(),
        header("n", HeaderMatch::Present(false), false, false),
        &get("h", "/"),
        true,
    );
    let method = value(StringMatch::Exact("GET".into()));
    check(
        line!(),
        header(":method", method, false, false),
        &get("h", "/"),
        true,
    );

    let test = StringTest::new("q", StringMatch::Exact("1".into()), false).expect("compiles");
    let query = RouteMatch {
        query: vec![QueryMatch {
            name: "a".into(),
            test: Some(test),
        }],
        ..RouteMatch::prefix("/")
    };
    check(line!(), query.clone(), &get("h", "/?b=2&a=1"), true);
    check(line!(), query.clone(), &get("h", "/?a=12"), false);
    check(line!(), query.clone(), &get("h", "/?a=1&a=2"), true);
    check(line!(), query, &get("h", "/?a=2&a=1"), false);
}

/// Bytes that are no text must neither hide a header nor fail every test of it: what is inverted
/// would let the request through.
#[test]
fn a_value_that_is_no_utf8_is_a_value() {
    let value = |test: StringMatch, ignore_case: bool| HeaderMatch::Value { test, ignore_case };
    let request = Request {
        headers: vec![("user", b"EV\xffil\xfe")],
        ..get("h", "/")
    };
    let check = |test: HeaderMatch, expect: bool| {
        for (invert, empty) in [(false, false), (false, true), (true, false), (true, true)] {
            let compiled = HeaderTest::new("user", test.clone(), invert, empty).expect("compiles");
            let passes = compiled.matches(&request);
            assert_eq!(passes, expect != invert, "{test:?} {invert} {empty}");
        }
    };
    check(HeaderMatch::Present(true), true);
    check(HeaderMatch::Present(false), false);
    check(value(StringMatch::Exact("EVil".into()), false), false);
    check(value(StringMatch::Prefix("EV".into()), false), true);
    check(value(StringMatch::Prefix("ev".into()), true), true);
    check(value(StringMatch::Prefix("il".into()), false), false);
    check(value(StringMatch::Suffix("il".into()), false), false);
    check(value(StringMatch::Contains("il".into()), false), true);
    check(value(StringMatch::Contains("IL".into()), true), true);
    check(value(StringMatch::Contains("vi".into()), true), false);
    check(value(StringMatch::Regex(".*".into()), false), true);
    check(value(StringMatch::Regex("EV.*".into()), false), true);
    check(value(StringMatch::Regex(".*il.".into()), false), true);
    check(
        value(StringMatch::Regex("(?i)ev.il[^a]".into()), false),
        true,
    );
    check(value(StringMatch::Regex("[A-Za-z]*".into()), false), false);
    check(HeaderMatch::Range(i64::MIN, i64::MAX), false);

    let exact = StringTest::new("q", StringMatch::Exact("é".into()), false).expect("compiles");
    assert!(exact.test("é".as_bytes()) && !exact.test(b"\xc3"));
}

#[test]
fn a_fraction_takes_its_share() {
    let half = RouteMatch {
        fraction: Some(Fraction {
            millionths: 500_000,
        }),
        ..RouteMatch::prefix("/")
    };
    let routes = vec![route("half", half), route("rest", RouteMatch::prefix("/"))];
    let table = table(vec![host("a", &["*"], routes)], false).expect("compiles");
    let host = table.host("x").expect("any");
    let name = |random| {
        host.route(&get("x", "/"), random)
            .expect("rest")
            .name
            .clone()
    };
    assert_eq!(name(499_999), "half");
    assert_eq!(name(500_000), "rest");
}

#[test]
fn why_a_route_is_the_one() {
    let header = |value: &str, invert: bool| {
        let test = HeaderMatch::Value {
            test: StringMatch::Exact(value.to_owned()),
            ignore_case: false,
        };
        HeaderTest::new("end-user", test, invert, false).expect("a test")
    };
    let with = |headers: Vec<HeaderTest>| RouteMatch {
        headers,
        ..RouteMatch::prefix("/")
    };
    let routes = vec![
        route("path", RouteMatch::prefix("/other")),
        route("jason", with(vec![header("jason", false)])),
        route("not", with(vec![header("ann", true)])),
        route(
            "share",
            RouteMatch {
                fraction: Some(Fraction {
                    millionths: 250_000,
                }),
                ..RouteMatch::prefix("/")
            },
        ),
        route("all", RouteMatch::prefix("/")),
        route("never", RouteMatch::prefix("/")),
    ];
    let table = RouteTable::new(RouteConfig {
        name: "t".to_owned(),
        hosts: vec![
            host("any", &["*"], Vec::new()),
            host("exact", &["reviews.default"], routes),
            host("suffix", &["*.default"], Vec::new()),
            host("none", &["ratings"], Vec::new()),
        ],
        ignore_port: false,
        headers: HeaderMutations::default(),
    })
    .expect("a table");
    let candidates = table.candidates("reviews.default");
    let names: Vec<_> = candidates
        .iter()
        .map(|c| (&*c.host.name, &*c.domain))
        .collect();
    assert_eq!(
        names,
        [
            ("exact", "reviews.default"),
            ("suffix", "*.default"),
            ("any", "*")
        ]
    );
    let host = table.host("reviews.default").expect("a host");
    assert!(std::ptr::eq(host, candidates[0].host));
    let mut request = get("reviews.default", "/reviews/0");
    request.headers.push(("end-user", b"ann"));
    let choices = host.choices(&request, 999_999);
    let told: Vec<_> = choices
        .iter()
        .map(|choice| {
            let miss = choice.miss?;
            Some(format!("{}: {}", miss.subject(), miss.told(&request)))
        })
        .collect();
    let expect = [
        Some("the path: wants prefix \"/other\", the request has \"/reviews/0\""),
        Some("header \"end-user\": wants exact \"jason\", the request has \"ann\""),
        Some("header \"end-user\": wants anything but exact \"ann\", the request has \"ann\""),
        Some("the share: wants 25 % of requests, of which this is not one"),
        None,
    ];
    assert_eq!(told, expect.map(|text| text.map(str::to_owned)));
    let taken = host.route(&request, 999_999).expect("a route");
    assert_eq!(&*taken.name, "all");
}
