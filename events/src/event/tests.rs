//! The rules and examples of CloudEvents 1.0.2, its JSON format and its HTTP binding.

use super::{
    http::{HttpError, Received, from_http, is_event, to_http},
    json::{batch_from_json, batch_to_json},
    *,
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

fn event() -> Event {
    Event::new("1", "/s", "t").unwrap()
}

fn json(text: &str) -> Result<Event, InvalidEvent> {
    Event::from_json(text.as_bytes())
}

/// An event with further members.
fn with(members: &str) -> Result<Event, InvalidEvent> {
    json(&format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#))
}

fn written(event: &Event) -> String {
    String::from_utf8(event.to_json()).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn one(headers: &HeaderMap, body: impl Into<Bytes>) -> Result<Event, HttpError> {
    match from_http(headers, body.into())? {
        Received::One(event) => Ok(event),
        Received::Batch(_) => panic!("a batch"),
    }
}

/// A binary message with the required attributes and more headers.
fn binary(more: &[(&str, &str)], body: &'static str) -> Result<Event, HttpError> {
    let required = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    one(&headers(&[&required, more].concat()), body)
}

// The examples of the JSON format, each with the HTTP message that the specification says it becomes.

const EXAMPLE: &str = r#""specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext", "subject": null,
    "id" : "A234-1234-1234", "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value", "comexampleothervalue" : 5, "unsetextension": null"#;

#[test]
fn examples_of_the_json_format_and_their_http_messages() {
    let object = "{\n    \"appinfoA\" : \"abc\",\n    \"appinfoB\" : 123,\n    \"appinfoC\" : true\n}";
    let thrift = "application/vnd.apache.thrift.binary";
    type Case<'a> = (&'a str, String, Option<&'a str>, Data);
    let cases: [Case<'_>; 7] = [
        (
            "binary",
            format!(r#""datacontenttype": "{thrift}", "data_base64": "/wABAg==""#),
            Some(thrift),
            Data::Binary(Bytes::from_static(&[255, 0, 1, 2])),
        ),
        (
            "xml",
            r#""datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>""#.into(),
            Some("application/xml"),
            Data::Text("<much wow=\"xml\"/>".into()),
        ),
        (
            "object",
            format!(r#""datacontenttype": "application/json", "data": {object}"#),
            Some("application/json"),
            Data::Json(object.into()),
        ),
        (
            "number",
            r#""datacontenttype": "application/json", "data": 1.5"#.into(),
            Some("application/json"),
            Data::Json("1.5".into()),
        ),
        (
            "json string",
            r#""data": "I'm just a string""#.into(),
            Some("application/json"),
            Data::Json("\"I'm just a string\"".into()),
        ),
        (
            "bytes of no type",
            r#""data_base64": "eyAieHl6IjogMTIzIH0=""#.into(),
            None,
            Data::Binary("{ \"xyz\": 123 }".into()),
        ),
        (
            "null",
            r#""datacontenttype": "application/cat+json", "data": null"#.into(),
            Some("application/cat+json"),
            Data::Json("null".into()),
        ),
    ];
    for (name, members, content_type, data) in cases {
        let event = json(&format!("{{{EXAMPLE}, {members}}}")).unwrap();
        assert_eq!(event.kind(), "com.example.someevent", "{name}");
        assert_eq!((event.id(), event.source(), event.subject()), ("A234-1234-1234", "/mycontext", None), "{name}");
        assert_eq!(event.time(), Some("2018-04-05T17:31:00Z"), "{name}");
        assert_eq!(event.extension("comexampleothervalue"), Some(&Value::Integer(5)), "{name}");
        assert_eq!(event.extensions().count(), 2, "{name}");
        assert_eq!((event.data_content_type(), event.data()), (content_type, Some(&data)), "{name}");
        assert_eq!(json(&written(&event)).as_ref(), Ok(&event), "{name}");

        let (sent, body) = to_http(&event);
        let mut expected = vec![
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.someevent"),
            ("ce-source", "/mycontext"),
            ("ce-id", "A234-1234-1234"),
            ("ce-time", "2018-04-05T17:31:00Z"),
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
        ];
        expected.extend(content_type.map(|content_type| ("content-type", content_type)));
        assert_eq!(sent, headers(&expected), "{name}");
        assert_eq!(body, data.bytes(), "{name}");
        assert_eq!(one(&sent, body).unwrap(), as_strings(&event), "{name}");
    }
}

#[test]
fn the_example_of_the_specification_keeps_its_members_in_order() {
    let event = json(
        r#"{"specversion":"1.0","type":"com.github.pull_request.opened","source":"https://github.com/cloudevents/spec/pull",
            "subject":"123","id":"A234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleothervalue":5,
            "comexampleextension1":"value","datacontenttype":"text/xml","data":"<much wow=\"xml\"/>",
            "dataschema":"urn:schema"}"#,
    )
    .unwrap();
    assert_eq!(
        written(&event),
        concat!(
            r#"{"specversion":"1.0","id":"A234-1234-1234","source":"https://github.com/cloudevents/spec/pull","#,
            r#""type":"com.github.pull_request.opened","subject":"123","time":"2018-04-05T17:31:00Z","#,
            r#""dataschema":"urn:schema","datacontenttype":"text/xml","comexampleextension1":"value","#,
            r#""comexampleothervalue":5,"data":"<much wow=\"xml\"/>"}"#
        )
    );
    let attributes: Vec<_> = event.attributes().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        attributes[..4],
        [
            "specversion=1.0",
            "id=A234-1234-1234",
            "source=https://github.com/cloudevents/spec/pull",
            "type=com.github.pull_request.opened"
        ]
    );
    assert_eq!(attributes[8..], ["comexampleextension1=value", "comexampleothervalue=5"]);
    for (name, value) in event.attributes() {
        assert_eq!(event.attribute(name), Some(value), "{name}");
    }
    assert_eq!((event.attribute("absent"), event.attribute("data")), (None, None));
}

#[test]
fn a_bad_event_does_not_spoil_its_batch() {
    let batch = r#"[ {"specversion":"1.0","type":"a","source":"/mycontext/4","id":"B1","datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"AAEC"},
        {"specversion":"1.0","type":"b","source":"/mycontext/9","data":[1]}, 7, [[]], {"data":{"a":[{}]},"id":1},
        {"specversion":"1.0","type":"b","source":"/mycontext/9","id":"C1","datacontenttype":"application/json","data":{"appinfoA":"abc"}} ]"#;
    let events = batch_from_json(batch.as_bytes()).unwrap();
    let attributes: Vec<_> =
        events.iter().map(|event| event.as_ref().map_err(|e| e.attribute.as_str()).map(Event::id)).collect();
    assert_eq!(attributes, [Ok("B1"), Err("id"), Err(""), Err(""), Err("id"), Ok("C1")]);

    let good: Vec<Event> = events.into_iter().flatten().collect();
    let again: Vec<Event> = batch_from_json(&batch_to_json(&good)).unwrap().into_iter().flatten().collect();
    assert_eq!(again, good);
    assert_eq!(batch_from_json(b" [ ] "), Ok(vec![]));
    assert_eq!(batch_to_json(&[]), b"[]");
    for broken in ["", "{}", "[{}", "[{},]", "[{}] 1", "null"] {
        let error = batch_from_json(broken.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("the event batch is no JSON array of events: "), "{error}");
    }
}

#[test]
fn what_is_no_json_object_is_no_event() {
    for broken in [
        "",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{",
        "{\"id\":}",
        "{\"id\":\"1\"",
        "{\"id\":\"\\x\"}",
        "{\"id\":\"1\"} x",
        "\u{feff}{}",
    ] {
        let error = json(broken).unwrap_err();
        assert_eq!(error.attribute, "", "{broken}");
        assert!(error.to_string().starts_with("the event is no JSON object: "), "{error}");
    }
    // Syntax is checked to the end, also after an attribute was refused.
    assert_eq!(json(r#"{"id":7,"data":{"a":}}"#).unwrap_err().attribute, "");
    assert_eq!(Event::from_json(b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}").unwrap_err().attribute, "");
}

#[test]
fn each_refusal_names_its_attribute() {
    let cases = [
        (r#""subject":"""#, "`subject` is empty: give it a value or leave it out"),
        (r#""subject":5"#, "`subject` is a number; write the string \"5\""),
        (r#""subject":true"#, "`subject` is a boolean; write the string \"true\""),
        (
            r#""subject":[]"#,
            "`subject` is an array or object: attributes are strings, booleans and whole numbers, the rest is data",
        ),
        (r#""subject":"a\nb""#, "`subject` holds U+000A, a control character: attributes hold printable text"),
        (r#""subject":"\u009f""#, "`subject` holds U+009F, a control character: attributes hold printable text"),
        (r#""subject":"\ufdd0""#, "`subject` holds U+FDD0, a noncharacter: attributes hold printable text"),
        (r#""subject":"\ud83f\udffe""#, "`subject` holds U+1FFFE, a noncharacter: attributes hold printable text"),
        (r#""subject":"\uDEAD""#, "`subject` holds an unpaired surrogate"),
        (r#""subject":"x","subject":"x""#, "`subject` is there twice"),
        (r#""subject":null,"subject":"x""#, "`subject` is there twice"),
        (r#""subject":"x","subject":null"#, "`subject` is there twice"),
        (r#""subject":null,"subject":null"#, "`subject` is there twice"),
        (r#""id":"2""#, "`id` is there twice"),
        (r#""\u0069d":"2""#, "`id` is there twice"),
        (r#""specversion":"1.0""#, "`specversion` is there twice"),
        (r#""ext":1,"ext":2"#, "`ext` is there twice"),
        (r#""data":1,"data":2"#, "`data` is there twice"),
        (r#""time":"yesterday""#, "`time` is `yesterday`, which is no RFC 3339 time; write `2026-01-31T12:00:00Z`"),
        (r#""dataschema":"""#, "`dataschema` is empty: give it a value or leave it out"),
        (
            r#""dataschema":"/schema""#,
            "`dataschema` is no absolute URI: it begins with a scheme, as `https://` or `urn:`",
        ),
        (
            r#""datacontenttype":"json""#,
            "`datacontenttype` is `json`, which is no media type; write `application/json` or `text/plain; charset=utf-8`",
        ),
        (
            r#""datacontenttype":"téxt/plain""#,
            "`datacontenttype` is `téxt/plain`, which is no media type; write `application/json` or `text/plain; charset=utf-8`",
        ),
        (r#""datacontenttype":7"#, "`datacontenttype` is a number; write the string \"7\""),
        (r#""partitionkey":"""#, "`partitionkey` is empty: give it a value or leave it out"),
        (r#""partitionkey":7"#, "`partitionkey` is a number; write the string \"7\""),
        (
            r#""ext":2147483648"#,
            "`ext` is no whole number from -2147483648 to 2147483647: write other numbers as strings",
        ),
        (r#""ext":1.0"#, "`ext` is no whole number from -2147483648 to 2147483647: write other numbers as strings"),
        (r#""ext":1e3"#, "`ext` is no whole number from -2147483648 to 2147483647: write other numbers as strings"),
        (
            r#""ext":{"a":1}"#,
            "`ext` is an array or object: attributes are strings, booleans and whole numbers, the rest is data",
        ),
        (r#""myExtension":1"#, "`myExtension` is no attribute name: use 1 to 64 of a-z and 0-9"),
        (r#""my_extension":null"#, "`my_extension` is no attribute name: use 1 to 64 of a-z and 0-9"),
        (r#""":"x""#, "the event has an attribute without a name"),
        (r#""data":1,"data_base64":"AA==""#, "`data_base64` is there together with `data`: an event has one of them"),
        (r#""data_base64":"A*==""#, "`data_base64` is no base64 (RFC 4648 §4): Invalid symbol 42, offset 1."),
        (r#""data_base64":{}"#, "`data_base64` is no string: it holds bytes in base64"),
        (
            r#""datacontenttype":"application/json","data_base64":"e30h""#,
            "`data` is not JSON, as `datacontenttype` `application/json` has it: trailing characters at line 1 column 3",
        ),
        (r#""datacontenttype":"text/plain","data":"\ud800""#, "`data` holds an unpaired surrogate"),
        (
            r#""datacontenttype":"text/plain; charset=iso-8859-1","data":"é""#,
            "`data` can't be written in `iso-8859-1`, the charset of `datacontenttype`: use `data_base64` or UTF-8",
        ),
    ];
    for (members, message) in cases {
        assert_eq!(with(members).unwrap_err().to_string(), message, "{members}");
    }
    let long = with(&format!(r#""{}\u0007":1"#, "A".repeat(10_000))).unwrap_err();
    assert!(long.attribute.len() < 80, "{}", long.attribute);
}

#[test]
fn what_is_required_is_required() {
    let all = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];
    for (missing, _) in all {
        let members: Vec<_> = all
            .iter()
            .filter(|(name, _)| *name != missing)
            .map(|(name, value)| format!("{name:?}:{value:?}"))
            .collect();
        let null = format!("{{{},\"{missing}\":null}}", members.join(","));
        for text in [format!("{{{}}}", members.join(",")), null] {
            let error = json(&text).unwrap_err();
            assert_eq!(error.attribute, missing);
            assert!(error.reason.starts_with("is missing"), "{error}");
        }
        let empty: Vec<_> = all
            .iter()
            .map(|(name, value)| format!("{name:?}:{:?}", if *name == missing { "" } else { value }))
            .collect();
        assert_eq!(json(&format!("{{{}}}", empty.join(","))).unwrap_err().attribute, missing);
    }
    let old = json(r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#).unwrap_err();
    assert_eq!(old.to_string(), "`specversion` is `0.3`; only \"1.0\" can be read");
    assert_eq!(json(r#"{"specversion":1.0}"#).unwrap_err().attribute, "specversion");
    for (id, source, kind, attribute) in
        [("", "/s", "t", "id"), ("1", "", "t", "source"), ("1", "/s", "", "type"), ("1", "a b", "t", "source")]
    {
        assert_eq!(Event::new(id, source, kind).unwrap_err().attribute, attribute);
    }
}

#[test]
fn sources_are_uri_references() {
    for good in [
        "https://github.com/cloudevents",
        "mailto:cncf-wg-serverless@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "/cloudevents/spec/pull/123",
        "/sensors/tn-1234567/alerts",
        "1-555-123-4567",
        "//pubsub.googleapis.com/projects/p/topics/t",
        "../up?q=a/b?c#frag/?",
        "./1:2",
        "a/b:c",
        "#",
        "?",
        "file:///tmp",
        "http://u:p@[::1]:80/x",
        "http://[v1.a:b]/",
        "http://host:/",
        "%41%c3%a9",
        "x:",
    ] {
        assert_eq!(check_text(good), Ok(()));
        check_uri(good).unwrap();
    }
    for bad in [
        "a b",
        "é",
        "{x}",
        "a|b",
        "%",
        "%4",
        "%zz",
        "1:2",
        ":a",
        "a_b:c",
        "a#b#c",
        "a[1]",
        "x?[]",
        "http://[::1",
        "http://[::g]/",
        "http://::1/",
        "http://h:p/",
        "http://a@b@c/",
        "<a>",
        "\"",
        "a\\b",
        "a^b",
        "a`b",
        "http://[::1]x/",
    ] {
        let error = check_uri(bad).expect_err(bad);
        assert!(error.contains("is no URI-reference: "), "{error}");
    }
    let schemes = ["urn:x", "https://x/y#z", "/x", "x", "//x"].map(|text| check_uri(text).unwrap());
    assert_eq!(schemes, [true, true, false, false, false]);
}

#[test]
fn times_are_rfc_3339() {
    for good in [
        "2018-04-05T17:31:00Z",
        "1985-04-12T23:20:50.52Z",
        "1996-12-19T16:39:57-08:00",
        "1990-12-31T23:59:60Z",
        "1990-12-31T15:59:60-08:00",
        "1937-01-01T12:00:27.87+00:20",
        "2000-02-29t00:00:00.000000000000001z",
        "2024-02-29T00:00:00-00:00",
        "0000-01-01T00:00:00Z",
    ] {
        assert!(is_time(good), "{good}");
    }
    for bad in [
        "",
        "2018-04-05",
        "2018-04-05T17:31:00",
        "2018-04-05 17:31:00Z",
        "2018-04-05T17:31Z",
        "2018-13-05T17:31:00Z",
        "2018-00-05T17:31:00Z",
        "2018-04-31T17:31:00Z",
        "2018-04-00T17:31:00Z",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2018-04-05T24:00:00Z",
        "2018-04-05T17:60:00Z",
        "2018-04-05T17:31:60Z",
        "1990-12-31T23:59:61Z",
        "2018-04-05T17:31:00.Z",
        "2018-04-05T17:31:00,5Z",
        "2018-04-05T17:31:00+24:00",
        "2018-04-05T17:31:00+01",
        "2018-04-05T17:31:00+0100",
        "2018-04-05T17:31:00+01:60",
        "2018-04-05T17:31:00Zx",
        "+018-04-05T17:31:00Z",
        "2018-04-05T17:31:00.5",
        "2018-4-05T17:31:00Z",
        "２018-04-05T17:31:00Z",
        "2018-04-05T17:31:00+0é:0",
    ] {
        assert!(!is_time(bad), "{bad}");
    }
}

#[test]
fn data_is_what_its_content_type_and_bytes_make_it() {
    let data = |content_type: Option<&str>, bytes: &'static [u8]| {
        let mut event = event();
        event.set_data(content_type, Bytes::from_static(bytes)).map(|()| event.data().unwrap().clone())
    };
    for json in
        ["application/json", "APPLICATION/JSON; charset=utf-8", "text/json", "application/geo+json", "x/y+JSON;a=b"]
    {
        assert_eq!(data(Some(json), b" [1, 2]\r\n"), Ok(Data::Json("[1, 2]".into())), "{json}");
        for bad in [&b"{"[..], b"", b"[1] 2", b"\"\xff\"", b"\xef\xbb\xbf{}"] {
            assert_eq!(data(Some(json), bad).unwrap_err().attribute, "data", "{json}");
        }
    }
    for text in [
        "text/plain",
        "text/csv; header=present",
        "application/xml",
        "image/svg+xml",
        "application/json-seq",
        "text/plain; charset=\"UTF-8\"",
        "application/geo+json-seq",
    ] {
        assert_eq!(data(Some(text), "é".as_bytes()), Ok(Data::Text("é".into())), "{text}");
        assert_eq!(data(Some(text), b"\xff"), Ok(Data::Binary(Bytes::from_static(b"\xff"))), "{text}");
    }
    for bytes in [
        "image/png",
        "Application/Octet-Stream",
        "application/x-protobuf",
        "application/vnd.apache.thrift.binary",
        "text/plain; Charset=utf-16",
        "a/b+cbor",
    ] {
        assert_eq!(data(Some(bytes), b"{}"), Ok(Data::Binary("{}".into())), "{bytes}");
    }
    assert_eq!(data(None, b"{}"), Ok(Data::Binary("{}".into())));

    // In JSON, a type that isn't JSON holds a string; other values are kept as their text, and `null` is no data.
    let text = with(r#""datacontenttype":"text/plain","data":{"a": [1]}"#).unwrap();
    assert_eq!(text.data(), Some(&Data::Text(r#"{"a": [1]}"#.into())));
    assert_eq!(with(r#""datacontenttype":"text/plain","data":null"#).unwrap().data(), None);
    assert_eq!(with(r#""data_base64":null,"datacontenttype":"text/plain""#).unwrap().data(), None);
    assert_eq!(
        with(r#""data":"\u00e9\"","datacontenttype":"text/plain""#).unwrap().data(),
        Some(&Data::Text("é\"".into()))
    );
    assert_eq!(with(r#""data":"","datacontenttype":"text/plain""#).unwrap().data(), Some(&Data::Text("".into())));
    // JSON data that is a string stays one, and is never read a second time.
    assert_eq!(with(r#""data":"{}""#).unwrap().data(), Some(&Data::Json("\"{}\"".into())));
    assert_eq!(
        with(r#""data_base64":"e30","datacontenttype":"text/json""#).unwrap().data(),
        Some(&Data::Json("{}".into()))
    );
    // A lone surrogate is fine inside JSON data: it is the consumer's.
    assert_eq!(with(r#""data":"\ud800""#).unwrap().data(), Some(&Data::Json(r#""\ud800""#.into())));
    assert_eq!(
        with(r#""datacontenttype":"text/plain; charset=latin1","data":"e""#).unwrap().data(),
        Some(&Data::Binary("e".into()))
    );
    assert_eq!(with(r#""datacontenttype":"text/plain; charset=utf-16","data":"e""#).unwrap_err().attribute, "data");
}

#[test]
fn json_data_keeps_its_bytes_and_may_nest_deep() {
    let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    for data in [&*deep, r#"{ "b":1.000e2 , "b" : 12345678901234567890123, "\u0061":"\/" }"#] {
        let event = with(&format!(r#""data": {data} "#)).unwrap();
        assert_eq!(event.data(), Some(&Data::Json(data.to_owned().into())));
        assert!(written(&event).ends_with(&format!(r#""data":{data}}}"#)));
        let (headers, body) = to_http(&event);
        assert_eq!(one(&headers, body), Ok(event));
    }
    let error = with(&format!(r#""ext": {deep}"#)).unwrap_err();
    assert_eq!(error.attribute, "ext");
    assert_eq!(batch_from_json(deep.as_bytes()).unwrap()[0].as_ref().unwrap_err().attribute, "");
}

#[test]
fn attributes_are_bounded() {
    let mut event = event();
    for i in 0..MAX_EXTENSIONS {
        event.set_extension(&format!("e{i}"), true).unwrap();
    }
    event.set_extension("e0", 7).unwrap();
    assert_eq!(event.set_extension("more", 1).unwrap_err().attribute, "more");
    assert_eq!(event.remove_extension("e1"), Some(Value::Boolean(true)));
    assert_eq!(event.remove_extension("e1"), None);
    event.set_extension("more", 1).unwrap();

    let room = MAX_ATTRIBUTES - event.size() - "subject".len();
    event.set_subject("x".repeat(room)).unwrap();
    assert_eq!(event.size(), MAX_ATTRIBUTES);
    let full = event.clone();
    assert_eq!(event.set_extension("e0", 10).unwrap_err().attribute, "e0");
    assert_eq!(event.set_data(Some("a/b"), "x".into()).unwrap_err().attribute, "datacontenttype");
    assert_eq!(event, full);
    event.set_data(None, "x".into()).unwrap();
    assert_eq!(event.size(), MAX_ATTRIBUTES + 1);
    event.set_subject("x").unwrap();
    let sizes: usize = event.attributes().skip(1).map(|(name, value)| name.len() + value.len()).sum();
    assert_eq!(event.size(), sizes + 1);

    let nulls: Vec<_> = (0..1000).map(|i| format!(r#""n{i}":null"#)).collect();
    assert_eq!(with(&nulls.join(",")).unwrap_err().attribute, "n129");
    assert_eq!(with(&format!(r#""ext":"{}""#, "x".repeat(70_000))).unwrap_err().attribute, "ext");
}

#[test]
fn a_setter_that_fails_changes_nothing() {
    let mut event = event();
    event.set_data(Some("text/plain"), "{".into()).unwrap();
    event.set_extension("ext", "x").unwrap();
    let before = event.clone();
    assert_eq!(event.set_attribute("datacontenttype", "application/json").unwrap_err().attribute, "data");
    assert_eq!(event.set_data(Some("application/json"), "{".into()).unwrap_err().attribute, "data");
    assert_eq!(event.set_data(Some("nonsense"), "x".into()).unwrap_err().attribute, "datacontenttype");
    assert_eq!(event.set_data(Some(""), "x".into()).unwrap_err().attribute, "datacontenttype");
    for (name, value) in [
        ("id", ""),
        ("time", "now"),
        ("dataschema", "x"),
        ("subject", "\n"),
        ("ext", "\u{7f}"),
        ("data", "x"),
        ("Ext", "x"),
        ("specversion", "0.3"),
    ] {
        assert_eq!(event.set_attribute(name, value).unwrap_err().attribute, name);
    }
    assert_eq!(
        event.set_extension("id", "2").unwrap_err().to_string(),
        "`id` is no extension: the specification defines it"
    );
    assert_eq!(event.set_extension(&"x".repeat(65), "2").unwrap_err().attribute.len(), 64 + "…".len());
    assert_eq!(event, before);

    event.set_attribute("datacontenttype", "image/png ").unwrap();
    assert_eq!((event.data_content_type(), event.data()), (Some("image/png"), Some(&Data::Binary("{".into()))));
    assert_eq!(event.remove_data(), Some(Data::Binary("{".into())));
    event.set_attribute("specversion", "1.0").unwrap();
    event.set_extension("partitionkey", "k").unwrap();
    assert_eq!(event.partition_key(), Some("k"));
}

#[test]
fn events_embed_in_json_types() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
    struct Page {
        events: Vec<Event>,
    }
    let page = Page { events: vec![with(r#""data":{"b":1.0,"a":2},"ext":true"#).unwrap(), event()] };
    let text = serde_json::to_string(&page).unwrap();
    assert_eq!(text, format!(r#"{{"events":[{},{}]}}"#, written(&page.events[0]), written(&page.events[1])));
    assert_eq!(serde_json::from_str::<Page>(&text).unwrap(), page);
    assert_eq!(serde_json::from_reader::<_, Page>(text.as_bytes()).unwrap(), page);
    assert_eq!(serde_json::from_value::<Page>(serde_json::to_value(&page).unwrap()).unwrap(), page);
    let error = serde_json::from_str::<Page>(r#"{"events":[{"specversion":"1.0"}]}"#).unwrap_err();
    assert!(error.to_string().starts_with("`id` is missing"), "{error}");
    assert!(schemars::schema_for!(Page).as_value().pointer("/$defs/Event/properties/id").is_some());
}

// HTTP.

#[test]
fn modes_are_told_apart_by_the_content_type() {
    let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    for content_type in ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8"] {
        // Attributes that are in headers too are those of the payload.
        let headers = headers(&[("content-type", content_type), ("ce-id", "other")]);
        assert!(is_event(&headers));
        assert_eq!(one(&headers, structured), Ok(event()));
    }
    let batch = headers(&[("content-type", "application/cloudevents-batch+json; charset=utf-8")]);
    assert!(is_event(&batch));
    assert_eq!(from_http(&batch, format!("[{structured}]").into()), Ok(Received::Batch(vec![Ok(event())])));
    assert_eq!(from_http(&batch, "[]".into()), Ok(Received::Batch(vec![])));
    assert!(matches!(from_http(&batch, structured.into()), Err(HttpError::Invalid(_))));

    for unknown in [
        "application/cloudevents+avro",
        "application/cloudevents",
        "application/cloudevents-batch+xml",
        "application/cloudevents+json; charset=utf-16",
    ] {
        let headers = headers(&[("content-type", unknown), ("ce-specversion", "1.0")]);
        assert!(is_event(&headers));
        assert_eq!(one(&headers, structured), Err(HttpError::UnsupportedMediaType(unknown.into())));
    }
    for plain in
        [headers(&[]), headers(&[("content-type", "application/json"), ("traceparent", "00-1-1-00"), ("cex", "1")])]
    {
        assert!(!is_event(&plain));
        assert_eq!(one(&plain, structured), Err(HttpError::NotAnEvent));
    }
    assert_eq!(binary(&[("content-encoding", "gzip")], ""), Err(HttpError::UnsupportedEncoding("gzip".into())));
    assert_eq!(binary(&[("content-encoding", "Identity")], ""), Ok(event()));
}

#[test]
fn binary_messages() {
    let event = binary(
        &[
            ("Content-Type", "application/json; charset=utf-8"),
            ("ce-time", "2018-04-05T03:56:24Z"),
            ("CE-TraceParent", "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("ce-sequence", "007"),
        ],
        "{\n}\n",
    )
    .unwrap();
    assert_eq!(event.data_content_type(), Some("application/json; charset=utf-8"));
    assert_eq!(event.data(), Some(&Data::Json("{\n}".into())));
    assert_eq!(event.attribute("traceparent").unwrap(), "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01");
    assert_eq!(event.extensions().map(|(name, _)| name).collect::<Vec<_>>(), ["sequence", "traceparent"]);
    assert_eq!(event.extension("sequence"), Some(&Value::String("007".into())));

    let empty = binary(&[("content-type", "application/json")], "").unwrap();
    assert_eq!((empty.data_content_type(), empty.data()), (Some("application/json"), None));
    // Without a content type nothing is assumed, and nothing added.
    let untyped = binary(&[], "{}").unwrap();
    assert_eq!((untyped.data_content_type(), untyped.data()), (None, Some(&Data::Binary("{}".into()))));
    assert!(written(&untyped).ends_with(r#""data_base64":"e30="}"#));

    for (pair, attribute) in [
        (&[("ce-id", "1")][..], "id"),
        (&[("ce-ext", "1"), ("ce-ext", "1")], "ext"),
        (&[("content-type", "a/b"), ("content-type", "a/b")], "datacontenttype"),
        (&[("content-type", "nonsense")], "datacontenttype"),
        (&[("content-type", "é/b")], "datacontenttype"),
        (&[("ce-datacontenttype", "a/b")], "datacontenttype"),
        (&[("ce-data", "x")], "data"),
        (&[("ce-my-ext", "x")], "my-ext"),
        (&[("ce-subject", "")], "subject"),
        (&[("ce-partitionkey", "")], "partitionkey"),
        (&[("ce-", "x")], ""),
        (&[("content-type", "application/json")], "data"),
    ] {
        let Err(HttpError::Invalid(error)) = binary(pair, "{") else { panic!("{pair:?}") };
        assert_eq!(error.attribute, attribute, "{error}");
    }
    let Err(HttpError::Invalid(error)) = one(&headers(&[("ce-id", "1")]), "") else { panic!() };
    assert_eq!(error.attribute, "specversion");
}

#[test]
fn header_values_are_percent_encoded() {
    for (text, header) in [
        ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("100%", "100%25"),
        ("say \"hi\"", "say%20%22hi%22"),
        ("a+b/c?d=e&f~", "a+b/c?d=e&f~"),
        (" x ", "%20x%20"),
    ] {
        let mut event = event();
        event.set_subject(text).unwrap();
        let (headers, body) = to_http(&event);
        assert_eq!(headers["ce-subject"], header);
        assert_eq!(one(&headers, body), Ok(event));
    }
    let subject = |header: &str| binary(&[("ce-subject", header)], "").map(|event| event.subject().unwrap().to_owned());
    for (header, text) in [
        ("%e2%82%ac", "€"),
        ("%41%62c", "Abc"),
        ("%2541", "%41"),
        ("a b", "a b"),
        ("\"a b\"", "a b"),
        (r#""a \"b\" \\ \c""#, r#"a "b" \ c"#),
        ("\"%41\"", "A"),
        ("say \"hi\"", "say \"hi\""),
        (r"a\b", r"a\b"),
        ("  x ", "x"),
        // As producers write it that don't encode.
        ("Zürich €", "Zürich €"),
        ("100%", "100%"),
        ("5% of 4g", "5% of 4g"),
        ("%4", "%4"),
        ("%+1", "%+1"),
    ] {
        assert_eq!(subject(header).as_deref(), Ok(text), "{header}");
    }
    for bad in [
        "%C0%A0",
        "%ED%A0%80",
        "%ED%B0%80",
        "%FF",
        "%E2%82",
        "\"",
        "\"a",
        "\"a\" b",
        "\"a\\\"",
        "%0A",
        "a%00",
        "a\tb",
        "%EF%BF%BF",
        "\"\"",
    ] {
        let Err(HttpError::Invalid(error)) = subject(bad) else { panic!("{bad}") };
        assert_eq!(error.attribute, "subject", "{bad}");
    }
}

#[test]
fn an_event_about_an_event_is_not_taken_for_it() {
    for content_type in
        ["application/cloudevents+json", "application/cloudevents-batch+json", "Application/CloudEvents+avro"]
    {
        let mut outer = event();
        outer.set_data(Some(content_type), "[]".into()).unwrap();
        let (headers, body) = to_http(&outer);
        assert_eq!(headers["content-type"], http::STRUCTURED);
        assert_eq!(one(&headers, body), Ok(outer));
    }
}

// Identities.

/// HTTP headers don't tell types apart.
fn as_strings(event: &Event) -> Event {
    let mut strings = event.clone();
    for (name, value) in event.extensions() {
        strings.set_extension(name, &*value.text()).unwrap();
    }
    strings
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,12}",
        any::<String>()
            .prop_map(|text| text.chars().filter(|c| check_text(c.encode_utf8(&mut [0; 4])).is_ok()).collect()),
    ]
}

fn required() -> impl Strategy<Value = String> {
    text().prop_filter("empty", |text| !text.is_empty())
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![any::<bool>().prop_map(Value::from), any::<i32>().prop_map(Value::from), text().prop_map(Value::from)]
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-0.10E+7".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            prop::collection::vec(inner, 0..4).prop_map(|items| format!(
                "{{{}}}",
                items.iter().map(|item| format!("\"k\" : {item}")).collect::<Vec<_>>().join(",\n")
            )),
        ]
    })
}

/// A content type and bytes that fit it.
fn data() -> impl Strategy<Value = Option<(Option<&'static str>, Bytes)>> {
    let bytes = || prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)].prop_map(Bytes::from);
    let json = prop::sample::select(vec!["application/json", "text/x+JSON; a=\"b\"", "application/cloudevents+json"]);
    let other = prop::sample::select(vec![
        "text/plain",
        "application/octet-stream",
        "text/csv; charset=utf-16",
        "x/y",
        "application/cloudevents+avro",
    ]);
    let data = prop_oneof![
        (json.prop_map(Some), json_value().prop_map(Bytes::from)),
        (other.prop_map(Some), bytes()),
        (Just(None), bytes()),
    ];
    prop::option::of(data)
}

fn events() -> impl Strategy<Value = Event> {
    let source = prop::sample::select(vec!["/a", "urn:x:y", "https://h:1/p?q=%20#f", "a"]);
    let time =
        prop::option::of(prop::sample::select(vec!["2024-02-29T23:59:60.123456789123Z", "2018-04-05t17:31:00-03:30"]));
    let schema = prop::option::of(prop::sample::select(vec!["urn:s", "https://example.com/s.json#/d"]));
    let extensions = prop::collection::vec(("[a-z][a-z0-9]{0,20}", value()), 0..6);
    let core = (required(), source, required(), prop::option::of(required()), time, schema);
    (core, extensions, prop::option::of(required()), data()).prop_map(
        |((id, source, kind, subject, time, schema), extensions, key, data)| {
            let mut event = Event::new(id, source, kind).unwrap();
            for (name, value) in [
                ("subject", subject),
                ("time", time.map(str::to_owned)),
                ("dataschema", schema.map(str::to_owned)),
                ("partitionkey", key),
            ] {
                if let Some(value) = value {
                    event.set_attribute(name, value).unwrap();
                }
            }
            for (name, value) in extensions {
                let _ = event.set_extension(&name, value); // the name may be a core attribute's
            }
            if let Some((content_type, bytes)) = data {
                event.set_data(content_type, bytes).unwrap();
            }
            event
        },
    )
}

proptest! {
    #[test]
    fn json_and_back(event in events()) {
        let text = event.to_json();
        serde_json::from_slice::<serde_json::Value>(&text).expect("the parser of others reads it");
        let read = Event::from_json(&text).expect("we read what we write");
        prop_assert_eq!(read.to_json(), text);
        prop_assert_eq!(read.size(), event.size());
        prop_assert_eq!(read, event);
    }

    #[test]
    fn batch_and_back(events in prop::collection::vec(events(), 0..4)) {
        let read: Result<Vec<_>, _> = batch_from_json(&batch_to_json(&events)).unwrap().into_iter().collect();
        prop_assert_eq!(read, Ok(events));
    }

    #[test]
    fn http_and_back(event in events()) {
        let (headers, body) = to_http(&event);
        prop_assert!(is_event(&headers));
        let read = one(&headers, body).unwrap();
        let mut expected = event.clone();
        if headers.get("content-type").is_none_or(|value| value != http::STRUCTURED) {
            expected = as_strings(&event);
            if event.data().is_some_and(|data| data.bytes().is_empty()) {
                expected.remove_data(); // HTTP can't tell an empty body from none
            }
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn pieces_and_back(event in events()) {
        let mut builder = Builder::default();
        for (name, value) in event.attributes().collect::<Vec<_>>().into_iter().rev() {
            builder.attribute(name, &*value).unwrap();
        }
        let built = builder.build(event.data().map(|data| data.bytes().clone())).unwrap();
        prop_assert_eq!(built, as_strings(&event));
    }

    #[test]
    fn nothing_from_outside_panics(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}\":,a-d0\\\\u%]{0,40}", value in "[ -~é]{0,12}") {
        let _ = Event::from_json(&bytes);
        let _ = (json(&text), with(&text), batch_from_json(text.as_bytes()));
        let _ = (check_uri(&value), is_time(&value), check_media_type(&value), is_bytes(&value), foreign_charset(&value));
        let _ = binary(&[("content-type", &value), ("ce-x", &value), ("ce-subject", &value)], "x");
    }
}
