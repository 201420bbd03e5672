//! Each provider's own example, where it has published one; where it hasn't, one that `openssl dgst` has signed.

use super::*;
use dunlin_events::{manifest::Trigger, secrets::SecretValue};
use http::Request;
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

/// A call to a webhook, and what it is verified with.
struct Example {
    trigger: Value,
    method: &'static str,
    address: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    secrets: Vec<&'static str>,
    /// In seconds since 1970.
    now: u64,
}

fn example(provider: &str, secret: &'static str, headers: &[(&'static str, &str)], body: &'static str) -> Example {
    Example {
        trigger: json!({ "path": "/hook", "provider": provider, "secrets": ["KEY"] }),
        method: "POST",
        address: "http://localhost/hook",
        headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        body: body.into(),
        secrets: vec![secret],
        now: 0,
    }
}

impl Example {
    fn with(mut self, key: &str, value: Value) -> Self {
        self.trigger[key] = value;
        self
    }

    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    fn called(mut self, address: &'static str) -> Self {
        self.address = address;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned().into();
        self
    }

    fn secrets(mut self, secrets: &[&'static str]) -> Self {
        self.secrets = secrets.to_vec();
        self
    }

    fn webhook(&self) -> Webhook {
        let manifest = json!({
            "name": "f", "component": "f.wasm", "triggers": [{ "webhook": self.trigger }],
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        assert_eq!(manifest.problems(), []);
        let Trigger::Webhook(webhook) = &manifest.triggers[0] else { panic!("it is a webhook") };
        Webhook::new(&manifest, 0, webhook)
    }

    fn head(&self) -> request::Parts {
        let mut request = Request::builder().method(self.method).uri(self.address);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// What comes of verification, and the event.
    fn run(&self) -> Result<Event, Unverified> {
        let (webhook, head) = (self.webhook(), self.head());
        let scheme = webhook.scheme(&head)?;
        let call = Call { head: &head, body: &self.body };
        let secrets: Vec<_> = self.secrets.iter().map(|text| SecretValue::new((*text).to_owned())).collect();
        scheme.verify(&call, &secrets, webhook.tolerance, UNIX_EPOCH + Duration::from_secs(self.now))?;
        let of = (webhook.provider, &webhook.service, scheme);
        let function = "f".parse().unwrap();
        Ok(Content::of(&call, scheme).event(&call, &function, of, webhook.key.as_ref(), InvocationId::new()).unwrap())
    }

    fn event(&self) -> Event {
        self.run().unwrap_or_else(|error| panic!("{}: {error}", self.trigger))
    }

    fn error(&self) -> Unverified {
        self.run().expect_err("it is forged")
    }
}

fn data(event: &Event) -> Value {
    serde_json::from_slice(event.data().unwrap().bytes()).unwrap()
}

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation>
fn github() -> Example {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [
        ("x-hub-signature-256", signature),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-github-event", "issues"),
        ("content-type", "text/plain"),
    ];
    example("github", "It's a Secret to Everybody", &headers, "Hello, World!")
}

/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
fn slack() -> Example {
    const COMMAND: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    example("slack", "8f742231b10e8888abcd99yyyzzz85a5", &headers, COMMAND).at(1_531_420_618 + 60)
}

/// <https://www.twilio.com/docs/usage/security>, and the examples of its libraries, which are the same.
fn twilio() -> Example {
    let form = "Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309&CallSid=CA1234567890ABCDE";
    let headers = [
        ("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("content-type", "application/x-www-form-urlencoded; charset=UTF-8"),
    ];
    example("twilio", "12345", &headers, form).called("https://mycompany.com/myapp.php?foo=1&bar=2")
}

/// <https://docs.svix.com/receiving/verifying-payloads/how-manual>, and the test of the Standard Webhooks libraries.
fn svix() -> Example {
    let headers = [
        ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("svix-timestamp", "1614265330"),
        ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ("content-type", "application/json"),
    ];
    example("svix", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &headers, r#"{"test": 2432232314}"#).at(1_614_265_330)
}

/// Stripe has published no example with its secret. Signed by
/// `printf %s '1492774577.{"id":"evt_1","type":"invoice.paid"}' | openssl dgst -sha256 -hmac whsec_test_secret`.
fn stripe() -> Example {
    let signature = "t=1492774577,v1=f7a632a9ffdbb1ced2fc48e44c374ec2cb4292469db292862c06ae703e2befbd,\
                     v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39";
    let headers = [("stripe-signature", signature), ("content-type", "application/json; charset=utf-8")];
    let body = r#"{"id":"evt_1","type":"invoice.paid"}"#;
    example("stripe", "whsec_test_secret", &headers, body).at(1_492_774_577 + 299)
}

/// Shopify has published no example. Signed by `printf %s '{"id":1}' | openssl dgst -sha256 -hmac shop-secret -binary | base64`.
fn shopify() -> Example {
    let headers = [
        ("x-shopify-hmac-sha256", "plW8VGqq0nDMIEhDqaNNW99asdUCy7EIqLZVcQwtAZ0="),
        ("x-shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
        ("x-shopify-event-id", "98880550-7158-44d4-b7cd-2c97c8a091b5"),
        ("x-shopify-topic", "orders/create"),
        ("content-type", "application/json"),
    ];
    example("shopify", "shop-secret", &headers, r#"{"id":1}"#)
}

/// GitLab has published no example of its signing tokens. Signed by openssl as Standard Webhooks has it, with Svix's key.
fn gitlab() -> Example {
    let headers = [
        ("webhook-signature", "v1,Q1AmauE6D3osysN42jgwY+tHOAJN9cChw5CQcE6Nox4="),
        ("webhook-id", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
        ("webhook-timestamp", "1775142900"),
        ("x-gitlab-event", "Merge Request Hook"),
        ("content-type", "application/json"),
    ];
    let body = r#"{"object_kind":"push"}"#;
    example("gitlab", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &headers, body).at(1_775_142_900)
}

#[test]
fn the_providers_examples_are_taken() {
    for (call, id, kind) in [
        (github(), "72d3162e-cc78-11e3-81ab-4c9367dc0958", "github.issues"),
        (stripe(), "evt_1", "stripe.invoice.paid"),
        (shopify(), "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043", "shopify.orders/create"),
        (gitlab(), "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", "gitlab.merge_request"),
        (svix(), "msg_p5jXN8AQM9LWM0D4loKWxJek", "svix.received"),
    ] {
        let event = call.event();
        assert_eq!((event.id(), event.kind(), event.source()), (id, kind, "/webhooks/f/hook"));
        assert_eq!(event.data().unwrap().bytes(), &call.body, "it is as it came");
    }
    let command = slack().event();
    assert_eq!((command.kind(), command.id().len()), ("slack.command", 64), "its id is a hash");
    assert_eq!((&data(&command)["command"], &data(&command)["text"]), (&json!("/webhook-collect"), &json!("")));
    let digits = twilio().event();
    assert_eq!((digits.kind(), digits.source()), ("twilio.call", "/webhooks/f/myapp.php"));
    assert_eq!((&data(&digits)["Digits"], &data(&digits)["To"]), (&json!("1234"), &json!("+18005551212")));
    assert_eq!(twilio().header("i-twilio-idempotency-token", "t-1").event().id(), "t-1");
}

#[test]
fn whatever_is_changed_of_a_call_makes_it_forged() {
    for call in [github(), stripe(), shopify(), gitlab(), svix(), slack(), twilio()] {
        let (provider, secret) = (call.trigger["provider"].clone(), call.secrets[0]);
        let Example { trigger, method, address, headers, body, secrets, now } = call;
        let again = || Example {
            trigger: trigger.clone(),
            method,
            address,
            headers: headers.clone(),
            body: body.clone(),
            secrets: secrets.clone(),
            now,
        };
        let body = format!("{} ", String::from_utf8_lossy(&body));
        assert!(again().run().is_ok() && again().secrets(&["another", secret]).run().is_ok(), "{provider}");
        assert!(again().body(&body).run().is_err(), "{provider}");
        assert!(again().secrets(&["another"]).run().is_err(), "{provider}");
        assert!(again().secrets(&[]).run().is_err(), "{provider}");
        let signature = headers[0].0;
        let header = if provider == "svix" { "svix-signature" } else { signature };
        assert_eq!(again().without(header).error(), Unverified::Missing(again().webhook().service.schemes[0].header()));
        for forged in ["", "sha256=", "v1=", "v0=,t=1", "v1,", "v1a,", "é"] {
            assert!(again().header(header, forged).run().is_err(), "{provider} {forged}");
        }
    }
    // The same in base64, hex of other length, and a second signature beside it.
    let stale = "v1=aa,v1=f7a632a9ffdbb1ced2fc48e44c374ec2cb4292469db292862c06ae703e2befbd";
    assert_eq!(stripe().header("stripe-signature", &format!("t=1492774577,{stale}")).event().id(), "evt_1");
    assert_eq!(stripe().header("stripe-signature", &format!("t=1492774578,{stale}")).error(), Unverified::Signature);
    let without = stripe().header("stripe-signature", stale).error();
    assert!(matches!(without, Unverified::Malformed { .. }), "{without:?}");
    assert_eq!(
        slack().without("x-slack-request-timestamp").error().to_string(),
        "it has no `x-slack-request-timestamp`"
    );
}

#[test]
fn stale_calls_are_refused_and_only_they() {
    let signed = 1_492_774_577;
    for (now, tolerance, taken) in [
        (signed - 300, None, true),
        (signed - 301, None, false),
        (signed + 300, None, true),
        (signed + 301, None, false),
        (signed + 599, Some("10m"), true),
        (signed + 11, Some("10s"), false),
    ] {
        let call = stripe().at(now);
        let call = match tolerance {
            Some(tolerance) => call.with("tolerance", json!(tolerance)),
            None => call,
        };
        assert_eq!(call.run().is_ok(), taken, "{now} {tolerance:?}");
    }
    assert_eq!(
        stripe().at(signed + 3600).error().to_string(),
        "its signature is right, but of 1h ago, and 5m are allowed"
    );
    // What is wrong with the time of a forged call is told to nobody.
    assert_eq!(stripe().at(signed + 3600).body("{}").error(), Unverified::Signature);
    assert!(slack().at(1_531_420_618 + 301).run().is_err());
    assert!(svix().at(1_614_265_330 - 301).run().is_err());
}

#[test]
fn standard_webhooks_come_under_both_names_and_with_several_signatures() {
    let signatures = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,xx \
                      v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let standard = |signatures: &str| {
        let headers = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signatures),
            ("content-type", "application/json"),
        ];
        let call =
            example("standard-webhooks", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &headers, r#"{"test": 2432232314}"#);
        call.at(1_614_265_330)
    };
    assert_eq!(standard(signatures).event().kind(), "standard-webhooks.received");
    // The reference libraries' example of Ed25519, with their public key.
    let signed = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    assert_eq!(standard(signed).secrets(&[public]).event().id(), "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(standard(signed).secrets(&[public]).body("{}").error(), Unverified::Signature);
    // A public key is no shared secret: whoever has it must not be able to sign.
    assert_eq!(standard(signatures).secrets(&[public]).error(), Unverified::Signature);
    assert_eq!(standard(signatures).secrets(&["no key"]).error(), Unverified::Signature);
}

/// The token, which is all older GitLabs send: <https://docs.gitlab.com/user/project/integrations/webhooks>.
#[test]
fn gitlab_s_token_is_compared() {
    let headers = [
        ("x-gitlab-token", "mytoken"),
        ("x-gitlab-event", "Push Hook"),
        ("idempotency-key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
    ];
    let call = || example("gitlab", "mytoken", &headers, "{}");
    let event = call().event();
    assert_eq!((event.id(), event.kind()), ("f5e5f430-f57b-4e6e-9fac-d9128cd7232f", "gitlab.push"));
    assert_eq!(call().header("x-gitlab-token", "mytoke").error(), Unverified::Token);
    // With a signature it is the signature that counts.
    assert!(call().header("webhook-signature", "v1,AAAA").run().is_err());
    // Before GitLab 17.4 nothing tells a call that is repeated from another one.
    let [one, two] = [call(), call()].map(|call| call.without("idempotency-key").event().id().to_owned());
    assert_ne!(one, two);
}

#[test]
fn twilio_signs_addresses_and_forms() {
    // The libraries' examples: values of a name that come twice, and the hash of a body that is no form.
    let twice = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
    let event = twilio().header("x-twilio-signature", "IK+Dwps556ElfBT0I3Rgjkr1wJU=").body(twice).event();
    assert_eq!(data(&event)["Digits"], json!(["5678", "1234", "1234"]));
    let json = || {
        let call = twilio()
            .header("x-twilio-signature", "a9nBmqA0ju/hNViExpshrM61xv4=")
            .header("content-type", "application/json");
        call.body(r#"{"property": "value", "boolean": true}"#)
            .called("https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620")
    };
    assert_eq!(data(&json().event())["property"], "value");
    assert_eq!(json().body("{}").error(), Unverified::Body);
    // The signature of an address covers its query, and no body beside it.
    let get = || {
        let call = twilio().header("x-twilio-signature", "eLcKu6fKleq6+Q2xMWBHboVCKTk=").body("");
        call.without("content-type").called("https://mycompany.com/sms?Body=hi")
    };
    assert_eq!(data(&get().event()), json!({ "Body": "hi" }));
    assert_eq!(get().body("x=1").error(), Unverified::Unsigned);
    assert!(get().called("https://mycompany.com/sms?Body=ho").run().is_err());

    // Behind a proxy the platform is called otherwise than Twilio calls, with another port, or another path.
    assert!(twilio().called("https://mycompany.com:443/myapp.php?foo=1&bar=2").run().is_ok());
    assert!(
        twilio()
            .called("http://mycompany.com/myapp.php?foo=1&bar=2")
            .header("x-forwarded-proto", "https")
            .run()
            .is_ok()
    );
    let inside = || twilio().called("http://10.0.0.7:8080/hooks?foo=1&bar=2");
    let error = inside().error();
    assert_eq!(error.to_string(), "its signature matches no secret and `http://10.0.0.7:8080/hooks?foo=1&bar=2`");
    assert!(inside().with("url", json!("https://mycompany.com/myapp.php")).run().is_ok());
    let inside = || twilio().called("http://10.0.0.7:8080/myapp.php?foo=1&bar=2");
    assert!(inside().with("url", json!("https://mycompany.com/")).run().is_ok());
    // `printf %s 'https://mycompany.com/…' | openssl dgst -sha256 -hmac shared-key -binary | base64`, for accounts with rules.
    let ruled =
        twilio().secrets(&["shared-key"]).header("x-twilio-signature", "QCYQe9VNqWEX8V0a+2j9n84Rig/VQSYoRshsCS4nk38=");
    assert!(ruled.header("x-twilio-webhooks-signature-settings", "key=k1,algorithm=HMAC_SHA256").run().is_ok());
}

/// Signed by openssl: `dgst -sha512 -hmac key` of `v1:1700000000000:d-1:{"a":1}`, `dgst -sha1 -hmac key` of `{"a":1}`.
#[test]
fn any_other_service_can_be_described() {
    let signature = "D937o05uZVzA7bIAQuZoSmt6vMOHCX69CQvUey5Irf91e8XRVchf0APt5R6uHk7vl2I5fgETXfzuM83+mKQcYw==";
    let headers = [
        ("x-signature", signature),
        ("x-time", "1700000000000"),
        ("x-id", "d-1"),
        ("x-event", "thing.done"),
        ("content-type", "application/json"),
    ];
    let whole = example("hmac", "key", &headers, r#"{"a":1}"#)
        .with("header", json!("X-Signature"))
        .with("algorithm", json!("sha512"))
        .with("encoding", json!("base64"))
        .with("signed", json!("v1:{timestamp}:{id}:{body}"))
        .with("timestamp", json!("X-Time"))
        .with("id", json!("X-Id"))
        .with("type", json!("X-Event"))
        .with("key", json!("/a"));
    let event = whole.at(1_700_000_000).event();
    assert_eq!((event.id(), event.kind(), event.partition_key()), ("d-1", "webhook.thing.done", Some("1")));

    let headers =
        [("authorization", "HMAC b5557a4b8f3cc308d19eb4f69f336392a31eef7b"), ("content-type", "application/json")];
    let least = || {
        let call = example("hmac", "key", &headers, r#"{"a":1}"#).with("header", json!("Authorization"));
        call.with("algorithm", json!("sha1")).with("prefix", json!("HMAC ")).with("type", json!("/a"))
    };
    let (one, two) = (least().event(), least().event());
    assert_eq!((one.id(), one.kind()), (two.id(), "webhook.1"), "what is signed the same is the same");
}

#[test]
fn tokens_and_passwords_are_compared() {
    let bearer = |header, value| example("bearer", "s3cret", &[(header, value)], "{}");
    for (value, taken) in [
        ("Bearer s3cret", true),
        ("bearer s3cret", true),
        ("s3cret", false),
        ("Bearer s3cre", false),
        ("Bearer ", false),
    ] {
        assert_eq!(bearer("authorization", value).run().is_ok(), taken, "{value}");
    }
    let own = |value| bearer("x-api-key", value).with("header", json!("X-Api-Key"));
    assert!(own("s3cret").run().is_ok() && own("Bearer s3cret").run().is_err());
    assert!(own("key s3cret").with("prefix", json!("key ")).run().is_ok());
    let [one, two] = [own("s3cret"), own("s3cret")].map(|call| call.event().id().to_owned());
    assert_ne!(one, two, "two calls that are alike are two");

    // RFC 7617, 2.
    let basic = |value| example("basic", "Aladdin:open sesame", &[("authorization", value)], "{}");
    assert_eq!(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").event().kind(), "webhook.received");
    for forged in ["Basic QWxhZGRpbjpvcGVu", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic", "Basic ****"] {
        assert!(basic(forged).run().is_err(), "{forged}");
    }
}

#[test]
fn forms_become_json() {
    let form = |body: &str| {
        let call = example(
            "bearer",
            "t",
            &[("authorization", "Bearer t"), ("content-type", "application/x-www-form-urlencoded")],
            "",
        );
        call.body(body).event()
    };
    let several = form("a=1&b=x+y%C3%A4&a=2&c=");
    assert_eq!(several.data_content_type(), Some("application/json"));
    assert_eq!(data(&several), json!({ "a": ["1", "2"], "b": "x yä", "c": "" }));
    // GitHub's forms and Slack's interactions.
    assert_eq!(data(&form("payload=%7B%22type%22%3A%22block_actions%22%7D")), json!({ "type": "block_actions" }));
    assert_eq!(data(&form("payload=text")), json!({ "payload": "text" }));
}

#[test]
fn slack_events_have_their_own_names_and_ids() {
    let named = |body: Value| {
        let (webhook, head) = (slack().webhook(), slack().header("content-type", "application/json").head());
        let (body, scheme) = (Bytes::from(body.to_string()), &webhook.service.schemes[0]);
        let (call, of) = (Call { head: &head, body: &body }, (webhook.provider, &webhook.service, scheme));
        let event =
            Content::of(&call, scheme).event(&call, &"f".parse().unwrap(), of, None, InvocationId::new()).unwrap();
        (event.kind().to_owned(), event.id().to_owned())
    };
    let event = json!({ "type": "event_callback", "event_id": "Ev08MFMKH6", "event": { "type": "app_mention" } });
    assert_eq!(named(event), ("slack.app_mention".to_owned(), "Ev08MFMKH6".to_owned()));
    assert_eq!(named(json!({ "type": "app_rate_limited" })).0, "slack.app_rate_limited");
    let asked = br#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    assert_eq!(challenge(asked).unwrap(), "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    assert_eq!(challenge(br#"{"challenge":"x","type":"event_callback"}"#), None);
}

#[test]
fn operators_are_told_what_to_look_at() {
    let told = |call: Example| call.webhook().told(&Refused::Unverified(call.error()));
    assert_eq!(
        told(github().secrets(&["another"])),
        "its signature matches no secret: is `KEY` the secret of this webhook at github, and does nothing on the way change the body?"
    );
    assert_eq!(
        told(github().without("x-hub-signature-256")),
        "it has no `x-hub-signature-256`: does github have the webhook's secret, and is it github that calls?"
    );
    let bearer = example("bearer", "t", &[("authorization", "Bearer x")], "").with("secrets", json!(["OLD", "NEW"]));
    assert_eq!(told(bearer), "its token matches no secret: is one of `OLD`, `NEW` the secret of this webhook?");
    assert!(told(twilio().called("http://localhost/sms")).ends_with("`url` in the trigger says which it is"));
}
