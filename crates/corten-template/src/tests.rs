//! Templates against what Go's engine with Helm's functions makes of them.

use serde_json::json;

use super::*;

fn render(text: &str, values: &Value) -> Result<String, TemplateError> {
    let mut templates = Templates::default();
    templates.add("t.yaml", text)?;
    let files = |name: &str| if name == "f" { "a: 1".to_owned() } else { String::new() };
    Ok(templates
        .render(&json!({"Values": values, "Files": {}}), &files)?
        .remove(0)
        .1)
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let values = json!({
        "name": "x", "on": true, "off": false, "n": 3, "nothing": null,
        "list": ["a", "b"], "map": {"k": "v", "a": {"b": [1]}}, "empty": {},
    });
    assert_eq!(render(text, &values).unwrap(), expected, "{text}");
}

#[test]
fn text_is_trimmed_where_it_says_so() {
    check("a {{- .Values.name -}} b", "axb");
    check("a\n{{- /* no\n }} */ -}}\nb", "ab");
    check("a {{ .Values.n }}\n", "a 3\n");
    check("{{ `}}` }}{{ \"a\\\"}}\" }}", "}}a\"}}");
}

#[test]
fn conditions_loops_and_variables() {
    check(
        "{{ if .Values.off }}1{{ else if .Values.on }}2{{ else }}3{{ end }}",
        "2",
    );
    check("{{ if .Values.empty }}1{{ else }}2{{ end }}", "2");
    check("{{ range .Values.list }}<{{ . }}>{{ end }}", "<a><b>");
    check(
        "{{ range $i, $x := .Values.list }}{{ $i }}{{ $x }}{{ $.Values.n }} {{ end }}",
        "0a3 1b3 ",
    );
    check("{{ range $k, $v := .Values.map }}{{ $k }} {{ end }}", "a k ");
    check("{{ range .Values.nothing }}1{{ else }}none{{ end }}", "none");
    check(
        "{{ with .Values.map.a }}{{ .b }}{{ end }}{{ with .Values.off }}1{{ else }}2{{ end }}",
        "[1]2",
    );
    check(
        "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}",
        "2",
    );
    check(
        "{{ define \"d\" }}[{{ .a }}]{{ end }}{{ include \"d\" (dict \"a\" 1) }}",
        "[1]",
    );
}

#[test]
fn functions_give_what_helm_gives() {
    check("{{ .Values.nothing | default \"d\" | quote }}", "\"d\"");
    check(
        "{{ eq .Values.n 3 }} {{ ne .Values.name \"x\" }} {{ and true .Values.name }} {{ or .Values.off \"y\" }}",
        "true false x y",
    );
    check("{{ and .Values.nothing .Values.nothing.x }}", "");
    check(
        "{{ toYaml .Values.map | nindent 2 }}",
        "\n  a:\n    b:\n    - 1\n  k: v",
    );
    check("{{ (fromYaml \"a: {b: 1}\").a.b }}", "1");
    check("{{ printf \"%s-%d%%\" .Values.name 3 }}", "x-3%");
    check(
        "{{ mergeOverwrite (dict \"a\" 1) (dict \"a\" 2 \"b\" 3) | toJson }}",
        "{\"a\":2,\"b\":3}",
    );
    check(
        "{{ .Files.Get \"f\" }}{{ .Files.Get \"g\" | default \"none\" }}",
        "a: 1none",
    );
    check(
        "{{ splitList \",\" \"a,b\" | join \"+\" }} {{ has \"a\" .Values.list }}",
        "a+b true",
    );
    check("{{ ternary \"y\" \"n\" (gt (int \"4\") 3) }}", "y");
    check(
        "{{ index .Values.list 1 }}{{ index .Values.map \"k\" }}{{ get .Values.map \"zz\" }}",
        "bv",
    );
    check("{{ omit .Values.map \"a\" | toJson }}", "{\"k\":\"v\"}");
}

#[test]
fn mistakes_name_their_place() {
    for (text, problem) in [
        ("{{ if .Values.on }}", "an end is missing"),
        (
            "\n{{ nofunction 1 }}",
            "t.yaml:2: the function \"nofunction\" is not known",
        ),
        ("{{ .Values.name.x }}", "cannot be taken from"),
        ("{{ $x }}", "$x is not known"),
        ("{{ \"a }}", "not closed"),
        ("{{ include \"no\" . }}", "no template is named"),
        (
            "{{ define \"r\" }}{{ include \"r\" . }}{{ end }}{{ include \"r\" . }}",
            "without end",
        ),
        ("{{ fail \"because\" }}", "because"),
        ("{{ end }}", "without its beginning"),
        ("{{ (1 }}", "( without its )"),
        ("{{ splitList 1 }}", "splitList does not take"),
    ] {
        let error = render(text, &json!({"name": "x", "on": true})).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}
