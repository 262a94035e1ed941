use serde_json::json;

use super::*;

fn render(template: &str, data: &Value) -> Result<String, TemplateError> {
    GoTemplate::parse::<NoFunctions>(template)?.render(data, &NoFunctions)
}

#[track_caller]
fn check(template: &str, want: &str) {
    let data = json!({
        "name": "a", "n": 3, "yes": true, "none": null, "empty": "",
        "list": ["x", "y"], "map": {"b": 2, "a": 1}, "deep": {"er": {"still": "here"}},
        "Spec": {"serviceAccountName": "sa", "hostIPC": true, "containers": [{"name": "c"}]},
    });
    match render(template, &data) {
        Ok(found) => assert_eq!(found, want, "{template}"),
        Err(error) => panic!("{template}: {error}"),
    }
}

#[test]
fn text_stays_and_blanks_are_trimmed() {
    check("plain", "plain");
    check("a {{ .name }} b", "a a b");
    check("a \n {{- .name -}} \n b", "aab");
    check("{{/* a comment */}}x{{- /* and */ -}} y", "xy");
    check("{{ \"}}\" }}", "}}");
    check("{{ `raw\\n` }}", "raw\\n");
    check("{{ \"tab\\t\" }}{{ 'A' }}", "tab\t65");
    check("{{ -1 }} {{ 0x10 }} {{ 1.5 }}", "-1 16 1.5");
}

#[test]
fn values_are_found_and_printed() {
    check("{{ .deep.er.still }}", "here");
    check("{{ .missing }}", "<no value>");
    check("{{ .missing.more }}", "<no value>");
    check("{{ .list }} {{ .map }}", "[x y] map[a:1 b:2]");
    check(
        "{{ .Spec.ServiceAccountName }} {{ .Spec.HostIPC }}",
        "sa true",
    );
    check("[{{ .Spec.NodeName }}]", "[]");
    check("{{ .Spec.GetServiceAccountName }}", "sa");
    check("{{ (index .list 1) }} {{ index .map \"b\" }}", "y 2");
    check("{{ (index .Spec.Containers 0).Name }}", "c");
    check("{{ len .list }} {{ slice .name 0 1 }}", "2 a");
}

#[test]
fn branches_are_taken() {
    check("{{ if .yes }}y{{ else }}n{{ end }}", "y");
    check(
        "{{ if .none }}y{{ else if eq .n 3 }}3{{ else }}n{{ end }}",
        "3",
    );
    check("{{ if and .yes (not .empty) }}y{{ end }}", "y");
    check("{{ or .empty .none \"z\" }}", "z");
    check(
        "{{ if and .none (index .list 9) }}y{{ else }}not looked at{{ end }}",
        "not looked at",
    );
    check("{{ with .deep.er }}{{ .still }}{{ end }}", "here");
    check("{{ with .none }}y{{ else }}{{ .name }}{{ end }}", "a");
    check(
        "{{ if ne .name \"b\" }}1{{ end }}{{ if lt .n 4 }}2{{ end }}{{ if ge .n 3 }}3{{ end }}",
        "123",
    );
    check("{{ if eq .name \"b\" \"a\" }}one of{{ end }}", "one of");
    check("{{ if eq .Spec.HostNetwork false }}unset{{ end }}", "unset");
}

#[test]
fn loops_go_over_lists_and_maps() {
    check("{{ range .list }}<{{ . }}>{{ end }}", "<x><y>");
    check(
        "{{ range $i, $v := .list }}{{ $i }}{{ $v }} {{ end }}",
        "0x 1y ",
    );
    check(
        "{{ range $k, $v := .map }}{{ $k }}={{ $v }};{{ end }}",
        "a=1;b=2;",
    );
    check("{{ range .none }}x{{ else }}nothing{{ end }}", "nothing");
    check("{{ range .list }}{{ $.name }}{{ break }}{{ end }}", "a");
    check(
        "{{ range .list }}{{ if eq . \"x\" }}{{ continue }}{{ end }}{{ . }}{{ end }}",
        "y",
    );
    check("{{ range .Spec.InitContainers }}x{{ end }}", "");
    check("{{ range 3 }}{{ . }}{{ end }}", "012");
}

#[test]
fn variables_have_scopes() {
    check(
        "{{ $x := 1 }}{{ if .yes }}{{ $x = 2 }}{{ end }}{{ $x }}",
        "2",
    );
    check(
        "{{ $x := 1 }}{{ if .yes }}{{ $x := 2 }}{{ end }}{{ $x }}",
        "1",
    );
    check("{{ $x := .deep }}{{ $x.er.still }}", "here");
    check("{{ with $x := .name }}{{ $x }}{{ end }}", "a");
}

#[test]
fn templates_call_templates() {
    check(
        "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" .name }}",
        "<a>",
    );
    check(
        "{{ template \"t\" }}{{ define \"t\" }}{{ . }}{{ end }}",
        "<no value>",
    );
    check("{{ block \"b\" .n }}{{ . }}{{ end }}", "3");
}

#[test]
fn pipelines_pass_values_on() {
    check("{{ .name | upper | printf \"%s-%s\" \"x\" }}", "x-A");
    check(
        "{{ printf \"%05d|%-4s|%4s|%q|%v|%.2f|%x|%%\" 42 \"a\" \"b\" \"c\" true 1.005 255 }}",
        "00042|a   |   b|\"c\"|true|1.00|ff|%",
    );
    check(
        "{{ print \"a\" 1 2 \"b\" }}{{ html \"<a>\" }}{{ urlquery \"a b/\" }}",
        "a1 2b&lt;a&gt;a+b%2F",
    );
}

#[test]
fn sprig_is_there() {
    for (template, want) in [
        (
            "{{ .empty | default \"d\" }}{{ coalesce .none .empty 1 }}",
            "d1",
        ),
        (
            "{{ ternary \"y\" \"n\" .yes }} {{ empty .list }}",
            "y false",
        ),
        ("{{ quote .name 1 }} {{ squote .name }}", "\"a\" \"1\" 'a'"),
        (
            "{{ title \"ab cd\" }}{{ trimSuffix \"-x\" \"a-x\" }}{{ trimAll \"-\" \"-b-\" }}",
            "Ab Cdab",
        ),
        (
            "{{ trunc 2 \"abc\" }}{{ trunc -2 \"abc\" }}{{ replace \"b\" \"x\" \"abc\" }}",
            "abbcaxc",
        ),
        (
            "{{ contains \"b\" \"abc\" }} {{ hasPrefix \"b\" \"abc\" }}",
            "true false",
        ),
        (
            "{{ join \",\" .list }} {{ (split \".\" \"a.b\")._1 }} {{ splitList \".\" \"a.b\" | last }}",
            "x,y b b",
        ),
        (
            "{{ indent 2 \"a\\nb\" }}|{{ nindent 1 \"a\" }}",
            "  a\n  b|\n a",
        ),
        (
            "{{ list 3 1 1 | uniq | reverse }} {{ without (list 1 2) 1 }} {{ has \"x\" .list }}",
            "[1 3] [2] true",
        ),
        (
            "{{ append .list \"z\" | rest | first }}{{ compact (list \"\" 1) }}{{ concat .list (list 1) }}",
            "y[1][x y 1]",
        ),
        (
            "{{ range until 2 }}{{ . }}{{ end }}{{ seq 3 }}{{ untilStep 4 0 -2 }}",
            "011 2 3[4 2]",
        ),
        (
            "{{ (dict \"k\" 1).k }}{{ get .map \"b\" }}{{ hasKey .map \"c\" }}",
            "12false",
        ),
        (
            "{{ keys .map | sortAlpha }} {{ omit .map \"a\" }} {{ pick .map \"a\" }}",
            "[a b] map[b:2] map[a:1]",
        ),
        (
            "{{ merge (dict \"a\" 9) .map }} {{ mergeOverwrite (dict \"a\" 9) .map }}",
            "map[a:9 b:2] map[a:1 b:2]",
        ),
        (
            "{{ dig \"er\" \"still\" \"no\" .deep }} {{ dig \"x\" \"no\" .deep }}",
            "here no",
        ),
        (
            "{{ add 1 2 3 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 9 2 }}",
            "6 3 6 3 1 9",
        ),
        (
            "{{ int \"12\" }} {{ add1 1 }} {{ round 1.256 2 }}",
            "12 2 1.26",
        ),
        (
            "{{ b64enc \"hi\" }} {{ b64dec \"aGk=\" }} {{ toJson .map }}",
            "aGk= hi {\"b\":2,\"a\":1}",
        ),
        (
            "{{ toYaml .map }} {{ (fromYaml \"a: 1\").a }} {{ (fromJson \"{}\") }}",
            "b: 2\na: 1 1 map[]",
        ),
        (
            "{{ regexMatch \"^a\" .name }} {{ regexReplaceAll \"a(.)\" \"ab\" \"${1}x\" }}",
            "true bx",
        ),
        (
            "{{ kindOf .map }} {{ kindIs \"string\" .name }} {{ snakecase \"FooBar\" }} {{ kebabcase \"FooBar\" }}",
            "map true foo_bar foo-bar",
        ),
    ] {
        check(template, want);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let check = |template: &str, line: usize, reason: &str| {
        let error = render(template, &json!({"list": [1], "n": 1})).expect_err(template);
        assert_eq!(error.line, line, "{template}: {error}");
        assert!(error.reason.contains(reason), "{template}: {error}");
    };
    check("a\n{{ nosuch 1 }}", 2, "no function nosuch");
    check("{{ now }}", 1, "no function now");
    check("{{ if .n }}\n\n", 1, "if has no end");
    check("\n{{ .n ", 2, "no }}");
    check("{{ end }}", 1, "end without");
    check("{{ \"a }}", 1, "does not end");
    check("{{ .n | .n }}", 1, "only functions take arguments");
    check("{{ $x }}", 1, "no variable $x");
    check("{{ index .list 4 }}", 1, "no item 4");
    check("{{ template \"t\" }}", 1, "no template");
    check(
        "{{ define \"t\" }}{{ template \"t\" }}{{ end }}\n{{ template \"t\" }}",
        1,
        "calls itself",
    );
    check("{{ fail \"because\" }}", 1, "because");
    check("{{ break }}", 1, "outside of a range");
    check("{{ range .n.x }}{{ end }}", 1, "has no field x");
    check("{{ else }}", 1, "else without");
    check("{{ if .n }}{{ else }}{{ else }}{{ end }}", 1, "second else");
    check("{{ (.n }}", 1, "parenthesis");
    check(
        "{{ range until 100000 }}{{ range until 100000 }}{{ . }}{{ end }}{{ end }}",
        1,
        "too much",
    );
}
