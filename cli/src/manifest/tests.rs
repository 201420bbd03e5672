use super::*;

fn environment(name: &str) -> Option<String> {
    match name {
        "REGION" => Some("eu".into()),
        "PLACES" => Some("7".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<ManifestFile, String> {
    ManifestFile::parse("function.yaml".into(), text.as_bytes().to_vec(), &environment)
        .map_err(|problems| Refused(vec![problems]).to_string())
}

#[test]
fn show() {
    for text in [
        "name: Hello_World\ncomponent: a.wasm\n",
        "name: a\ncomponent: a.wasm\nlimits:\n  memroy: 64MiB\n  time: 10\n  cpu: soon\n  concurrency: 0\n  queue: -1\n",
        "name: a\ncomponent: a.wasm\nname: b\n",
        "name: a\ncomponent: a.wasm\ntriggers:\n  - http: { path: hello, methods: [get] }\n  - htpp: { path: /a }\n  - http:\n    path: /b\n  - http: {}\n  - http\n",
        "name: a\ncomponent: a.wasm\nallow:\n  env:\n    PORT: 8080\n    HOME: ${HOMEE}\n    \"2X\": a\n  secrets: [key]\n  http: https://a.b\n  networks: [10.0.0.0]\n",
        "name: a\ncomponent: 'unclosed\n",
        "name: a\n\tcomponent: b\n",
        "name: a\ncomponent: a.wasm\n---\nname: b\ncomponent: b.wasm\n",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        "",
        "- name: a\n",
        "just text",
        "component: a.wasm\ntriggers:\n",
        "name: a\ncomponent: a.wasm\nallow: { env: { KEY: x }, secrets: [KEY] }\ntriggers:\n  - http: { path: / }\n  - http: { path: / }\n",
        "name: a\ncomponent: a.wasm\nlimits: !!float 5\n",
        "name: a\ncomponent: !foo a.wasm\n",
        "name: a\ncomponent: a.wasm\nlimits: { memory: 64MiB\n",
        "name: a\ncomponent: a.wasm\nlimits: { memory: 64MiB, concurrency: \"5\" }\nreuse: 5\n",
        "name: a\ncomponent: a.wasm\n? [a, b]\n: c\n",
        "name: ä€ \ncomponent: \"ö${REGION}/${NOPE}\"\n",
    ] {
        println!("-----------------\n{text}=================\n{}", parse(text).map(|_| "fine".to_owned()).unwrap_or_else(|e| e));
    }
    panic!();
}
