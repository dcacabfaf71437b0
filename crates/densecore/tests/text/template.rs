//! Templates: hostile ones end, others follow Python.

use std::time::{Duration, Instant};

use densecore::Error;
use densecore::generate::Cancel;
use densecore::text::Message;

use crate::template;

#[test]
fn hostile_templates_end_in_an_error() {
    let doubling =
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = BODY %}{% endfor %}{{ ns.s }}";
    let mut cases: Vec<String> = [
        "ns.s + ns.s",
        "ns.s ~ ns.s",
        "ns.s * 8",
        "ns.s|replace('a', 'aa')",
        "ns.s.replace('a', 'aa')",
        "[ns.s, ns.s]|join('')",
        "ns.s|join(ns.s)",
        "[ns.s, ns.s]",
        "[ns.s]",
        "{'a': ns.s, 'b': ns.s}",
        "(ns.s|list) + (ns.s|list)",
        "ns",
        "[ns]",
        "ns.s|indent(99999999)",
        "ns.s|list|string",
    ]
    .iter()
    .map(|body| doubling.replace("BODY", body))
    .collect();
    cases.extend([
        "{{ 'a' * 10**9 }}", "{{ 10**9 * 'a' }}", "{{ ('a' * 100000000) ~ ('b' * 100000000) }}", "{{ [1] * 10**9 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ range(10**12) }}", "{{ range(0, 0 - 10**12, -1) }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('aaaa') }}",
        "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}{% endfor %}",
        "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% block a %}{% endblock %}", "{{ 1|nosuchfilter }}", "{{ 1 is nosuchtest }}",
        "{{ nosuchfunction() }}", "{{ ''.__class__.__mro__ }}", "{{ messages.__init__.__globals__ }}", "{{ '{:>9999999999}'.format(1) }}",
        "{{ '%09999999999d'|format(1) }}", "{{ 'a'|center(9999999999) }}", "{% if %}", "{{", "{% for x in %}", "{{ raise_exception('stop') }}",
        "{{ 1 // 0 }}", "{{ 'a' + 1 }}", "{{ undefined.x.y }}", "{{ messages[0:10:0] }}",
    ].map(String::from));
    cases.push(format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)));
    cases.push(format!("{{{{ a{} }}}}", "+1".repeat(30_000)));
    cases.push(format!("{{% if a %}}{}", "{% elif b %}".repeat(5_000)));
    cases.push(format!("{{% set x = 'aaaaaaaa' %}}{}", "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(40)));
    cases.push("a".repeat(100_000));
    assert!(cases.len() >= 25);
    let chat = [Message::text("user", "hello")];
    for case in cases {
        let start = Instant::now();
        let result = template(&case).and_then(|template| template.render(&chat, true, &Cancel::default()));
        let shown = &case[..case.len().min(120)];
        assert!(result.is_err(), "{shown}");
        assert!(!matches!(result, Err(Error::Internal(_))), "{shown}");
        assert!(start.elapsed() < Duration::from_secs(10), "{shown} took {:?}", start.elapsed());
    }
}

#[test]
fn templates_follow_python() {
    let chat = [Message::text("system", " s "), Message::text("user", "é")];
    for (source, expected) in [
        ("{{ bos_token }}{{ messages[1:]|length }}", "<s>1"),
        ("{{ messages[::-1][0].content }}", "é"),
        ("{{ messages|tojson }}", r#"[{"role": "system", "content": " s "}, {"role": "user", "content": "é"}]"#),
        ("{{ [1, 'a', none, true] }}", "[1, 'a', None, True]"),
        ("{{ 'a' * 3 * 2 }}{{ 2 * 3 }}", "aaaaaa6"),
        ("{{ 'x' ~ none ~ 1 }}", "xNone1"),
        ("{{ '\n a\n'.lstrip('\n').rstrip() }}|{{ 'a</t>b'.split('</t>')[-1] }}", " a|b"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ messages[0].content is string }}{{ x is defined }}", "TrueFalse"),
        (
            "{{ 7 // -2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1e20 }} {{ 0.1 + 0.2 }}",
            "-4 -4 2 -2 3.5 1024 1e+20 0.30000000000000004",
        ),
        (
            "{{ ' a  b c '.split() }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b c'.split(None, 1) }}",
            "['a', 'b', 'c']['a,b', 'c']['a', 'b c']",
        ),
        (
            "{{ 'abc'[-1] }}{{ 'abc'[1:] }}{{ 'abc'[::-1] }}{{ 'abcdef'[1:-1:2] }}{{ 'a'[5] is defined }}",
            "cbccbabdFalse",
        ),
        ("{{ {'b': 1, 'a': [1.5, none]}|tojson(sort_keys=true, separators=(',', ':')) }}", r#"{"a":[1.5,null],"b":1}"#),
        ("{% generation %}x{% set a = 1 %}{% endgeneration %}{{ a is defined }}", "xFalse"),
        (
            "{{ [3, 1, 2]|sort|join('-') }}{{ ['b', 'A']|sort }}{{ [1, 1, 2]|unique|list|length }}{{ [1, 5]|max }}",
            "1-2-3['A', 'b']25",
        ),
        (
            "{{ messages|map(attribute='role')|map('upper')|join(',') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
            "SYSTEM,USER1",
        ),
        (
            "{% for k, v in {'x': 1}.items() %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'y': 2}|items %}{{ k }}{{ v }}{% endfor %}",
            "x1y2",
        ),
        ("{% macro m(a, b='z') %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}{% call m(1) %}!{% endcall %}", "1z!"),
        (
            "{% for x in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.changed(x // 2) }}{% endfor %}",
            "aTrueb1Truea2False",
        ),
        (
            "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.content }}{% endfor %}",
            "1/1é",
        ),
        (
            "{{ 1 is eq 1 }}{{ 1 is eq 2 }}{{ 1 is ne 1 }}{{ 'a' is equalto 'a' }}{{ true is sameas true }}",
            "TrueFalseFalseTrueTrue",
        ),
        ("{{ ['a', 'b'] | reject('equalto', 'a') | list }}{{ ['a', 'b'] | select('==', 'a') | list }}", "['b']['a']"),
        (
            "{{ 'é'|tojson(true) }}{{ [1]|tojson(false, 1) }}{{ ['é']|map('tojson', ensure_ascii=true)|first }}",
            "\"\\u00e9\"[\n 1\n]\"\\u00e9\"",
        ),
        (
            "{{ ['e\u{301}\u{200d}\u{a0}\u{1f469}\u{e0001}', x] }}",
            "['e\u{301}\\u200d\\xa0\u{1f469}\\U000e0001', Undefined]",
        ),
        ("{{ dict([('a', 1)]) }}{{ 3|round }}{{ 'a' in {'a': none} }}", "{'a': 1}3True"),
        // Nothing is worked out before it runs, where other rules would hold; texts in a row are one text.
        (
            "{{ '' and 'x' }}{{ [''] ~ true }}{{ 4 / 2 }}{{ 'a' 'b'\n 'c' ~ 1.0 }}{{ [[1, 2], 3].0[1] }}{{ -2 ** 2 }}",
            "['']True2.0abc1.024",
        ),
        (
            "{{ __constant0 is defined }}{% macro f(a='x', b=2) %}{{ a ~ b ~ 'y' }}{% endmacro %}{{ f() }}{{ f(b='z') }}",
            "Falsex2yxzy",
        ),
        (
            "{{ none|map('upper')|list }}{{ false|select|list }}{{ {}[1:] is defined }}{{ x is sequence }}",
            "[][]FalseTrue",
        ),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"),
    ] {
        assert_eq!(
            template(source).and_then(|t| t.render(&chat, false, &Cancel::default())).unwrap(),
            expected,
            "{source}"
        );
    }
    assert_eq!(
        template("{{ strftime_now('%Y') }}").unwrap().render(&chat, false, &Cancel::default()).unwrap().len(),
        4
    );
}
