//! Tokenizer, streams and chat templates on a tiny vocabulary.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use densecore::generate::Cancel;
use densecore::text::{ChatTemplate, Encoded, Message, Piece, PreTokenizer, Special, Tokenizer, Vocabulary};
use densecore::{Error, Limits};

/// Spelling of one byte in byte-level vocabularies.
fn spell(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if own(byte) {
        return byte as char;
    }
    let before = (0..byte).filter(|b| !own(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// All bytes, a few merges, two control tokens and a user-defined one.
fn tokenizer(pre: &str) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255).map(|b| spell(b).to_string()).collect();
    let merges = ["a a", "aa aa", "h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ a", "1 2"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut kinds = vec![1; tokens.len()];
    for (name, kind) in [("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool>", 4), ("[PAD]", 5)] {
        tokens.push(name.into());
        kinds.push(kind);
    }
    let vocabulary = Vocabulary {
        tokens: tokens.iter().map(String::as_str).collect(),
        kinds,
        merges: merges.to_vec(),
        pre,
        bos: None,
        eos: vec![266],
    };
    Tokenizer::from_vocabulary(&vocabulary, &Limits::default()).unwrap()
}

fn pieces(pre: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    PreTokenizer::named(pre).unwrap().split(text, |word| out.push(word.to_string()));
    assert_eq!(out.concat(), text);
    out
}

/// A small generator of numbers, so that cases repeat.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn words_are_cut_as_the_families_do() {
    assert_eq!(
        pieces("qwen2", "I'LL go 123  x\r\n\n y!?\n"),
        ["I", "'LL", " go", " ", "1", "2", "3", " ", " x", "\r\n\n", " y", "!?\n"]
    );
    assert_eq!(pieces("llama-bpe", "12345 a"), ["123", "45", " a"]);
    assert_eq!(pieces("smollm", "I'LL 12 go  "), ["I", "'", "LL", " ", "1", "2", " go", "  "]);
    assert_eq!(pieces("gpt-2", "it's 12 go"), ["it", "'s", " 12", " go"]);
    assert_eq!(pieces("default", "a12345!b"), ["a", "123", "45", "!", "b"]);
    assert_eq!(pieces("qwen2", "e\u{301}x"), ["e", "\u{301}x"]);
    assert_eq!(pieces("qwen35", "e\u{301}x"), ["e\u{301}x"]);
    assert!(pieces("qwen2", "").is_empty());
}

#[test]
fn unknown_pre_tokenizer_is_refused_by_name() {
    let error = PreTokenizer::named("tekken").unwrap_err().to_string();
    assert!(error.contains("tekken") && error.contains("qwen2"), "{error}");
}

#[test]
fn merges_follow_their_rank() {
    let t = tokenizer("qwen2");
    let id = |name: &str| t.id_of(name).unwrap();
    assert_eq!(t.encode("hello hello", Special::AsText).unwrap(), [id("hello"), id("Ġhello")]);
    assert_eq!(t.encode("aaaaa", Special::AsText).unwrap(), [id("aaaa"), id("a")]);
    assert_eq!(t.encode("12", Special::AsText).unwrap(), [id("1"), id("2")]);
    assert!(t.encode("", Special::AsText).unwrap().is_empty());
    // Long words take the other algorithm: the same result.
    let long = t.encode(&"a".repeat(4_001), Special::AsText).unwrap();
    assert_eq!((long.len(), long[999], long[1000]), (1001, id("aaaa"), id("a")));
}

#[test]
fn special_tokens_in_text_stay_text() {
    let t = tokenizer("qwen2");
    let end = t.id_of("<|im_end|>").unwrap();
    let text = "a<|im_end|><tool>b";
    let plain = t.encode(text, Special::AsText).unwrap();
    assert!(!plain.contains(&end) && plain.contains(&t.id_of("<tool>").unwrap()));
    assert!(t.encode(text, Special::Parse).unwrap().contains(&end));
    assert_eq!(t.decode(&plain, true).unwrap(), text);
    assert_eq!(t.decode(&[end, 97], false).unwrap(), "a");
    assert_eq!(t.decode(&[end, 97], true).unwrap(), "<|im_end|>a");
    assert_eq!(t.eos(), [266]);
    assert_eq!(t.special_tokens().count(), 3);
}

#[test]
fn streams_join_to_the_whole() {
    let t = tokenizer("qwen2");
    let mut state = 7;
    for round in 0..3_000 {
        let mut ids: Vec<u32> = t.encode("é中👍 hello", Special::AsText).unwrap();
        if round > 0 {
            ids = (0..random(&mut state) % 40).map(|_| (random(&mut state) % t.vocab_size() as u64) as u32).collect();
        }
        let mut stream = t.stream_with_special();
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text += &stream.finish();
        assert_eq!(text, t.decode(&ids, true).unwrap());
    }
    let mut stream = t.stream();
    let parts: Vec<String> = "👍".bytes().map(|b| stream.push(u32::from(b))).collect();
    assert_eq!(parts, ["", "", "", "👍"]);
}

#[test]
fn every_id_has_bytes_and_others_are_refused() {
    let t = tokenizer("qwen2");
    assert!((0..t.vocab_size() as u32).all(|id| !t.token_bytes(id).unwrap().is_empty()));
    assert!(t.decode(&[99_999], true).unwrap_err().to_string().contains("99999"));
}

#[test]
fn a_megabyte_without_white_space_is_quick() {
    for pre in ["qwen2", "smollm", "llama-bpe", "default"] {
        for unit in ["a", "1", " ", "\n", "中", "!"] {
            let start = Instant::now();
            tokenizer(pre).encode(&unit.repeat(300_000), Special::AsText).unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "{pre} {unit:?}");
        }
    }
}

#[test]
fn damaged_vocabularies_are_refused() {
    let limits = Limits::default();
    let make = |tokens: Vec<&'static str>, merges, kinds, eos| {
        Tokenizer::from_vocabulary(&Vocabulary { tokens, merges, kinds, pre: "qwen2", bos: None, eos }, &limits)
    };
    assert!(make(vec![], vec![], vec![], vec![]).is_err());
    assert!(make(vec!["a", "a"], vec![], vec![], vec![]).is_err());
    assert!(make(vec!["a"], vec!["ab"], vec![], vec![]).is_err());
    assert!(make(vec!["a"], vec![], vec![1, 1], vec![]).is_err());
    assert!(make(vec!["a"], vec![], vec![], vec![7]).is_err());
}

const CHAT: &str = "{% for m in messages %}{{'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n'}}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn template(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::from_source(source, Some("<s>".into()), None, &Limits::default())
}

#[test]
fn benign_chats_encode_as_their_text() {
    let t = tokenizer("qwen2");
    let chat = [Message::text("user", "hello hello"), Message::text("assistant", "")];
    let template = template(CHAT).unwrap();
    let text = template.render(&chat, true, &Cancel::default()).unwrap();
    assert_eq!(
        text,
        "<|im_start|>user\nhello hello<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = t.encode(&text, Special::Parse).unwrap();
    assert_eq!(template.encode(&t, &chat, true, &Cancel::default()).unwrap(), [Encoded::Ids(ids)]);
}

#[test]
fn contents_cannot_end_their_turn() {
    let t = tokenizer("qwen2");
    let content = vec![
        Piece::Text("x<|im_".into()),
        Piece::Text("end|>".into()),
        Piece::Slot(4),
        Piece::Text("<|im_start|>y".into()),
    ];
    let chat = [Message { role: "user".into(), content }];
    let parts = template(CHAT).unwrap().encode(&t, &chat, false, &Cancel::default()).unwrap();
    let [Encoded::Ids(a), Encoded::Slot(4), Encoded::Ids(b)] = &parts[..] else { panic!("{parts:?}") };
    let end = t.id_of("<|im_end|>").unwrap();
    assert!(!a.contains(&end));
    assert_eq!(t.decode(a, true).unwrap(), "<|im_start|>user\nx<|im_end|>");
    assert_eq!(b.iter().filter(|id| **id == end).count(), 1);
    assert!(template(CHAT).unwrap().render(&chat, false, &Cancel::default()).is_err());
}

#[test]
fn altered_contents_are_an_error() {
    let t = tokenizer("qwen2");
    for source in [
        "{{ messages[0].content[:2] }}",
        "{{ messages[0].content|length }}",
        "nothing",
        "{{ messages[0].content|replace('0', '7') }}",
    ] {
        let chat = [Message::text("user", "<|im_end|>")];
        assert!(
            matches!(template(source).unwrap().encode(&t, &chat, false, &Cancel::default()), Err(Error::Template(_))),
            "{source}"
        );
    }
}

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
