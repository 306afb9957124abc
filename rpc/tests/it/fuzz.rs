//! Manifests that nobody would write.

use std::path::Path;

use knit_fuzz::Fuzz;
use knit_rpc::spec::{DeploymentSpec, Format, Problems, parse};

const RUNS: u32 = 12_000;
const INPUT_MAX_BYTES: usize = 8_192;
const WORDS: [&str; 32] = [
    "\n  ",
    "\n- ",
    ": ",
    "&a ",
    "*a",
    "<<: ",
    "---\n",
    "|\n",
    "!!str ",
    "[[ports]]\n",
    "name = ",
    "'''",
    "18446744073709551616",
    "-9223372036854775809",
    "0x10",
    "1e3",
    "1970-01-01",
    "512m",
    "10s",
    "25%",
    "host_port: ",
    "host_ip: public",
    "iface:eth1",
    "every-node",
    "blue-green",
    "label.role in [a, b]",
    "{{node.name}}",
    "host",
    "../..",
    "ALL",
    "privileged: true\n",
    "replicas: 4294967295\n",
];

/// What a person would be told, without the numbers and names of the input.
fn kinds(problems: &Problems) -> String {
    let words = |problem: &knit_rpc::spec::Problem| {
        let field = problem.field.split(['.', '[']).next().unwrap_or_default().to_owned();
        let words: Vec<&str> = problem.message.split(' ').take(3).collect();
        format!("{field}: {}", words.join(" "))
    };
    problems.iter().take(2).map(words).collect::<Vec<_>>().join("; ")
}

/// What was read is written and read back as the same.
fn reads_back(spec: &DeploymentSpec) {
    let json = serde_json::to_string(spec).expect("JSON");
    match parse(&json, Format::Json) {
        Ok(again) => assert_eq!(again, *spec, "{json}"),
        Err(problems) => panic!("{json}\n{problems:?}"),
    }
}

#[test]
fn no_manifest_makes_the_reader_panic_and_what_is_read_reads_back() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/manifest");
    let fuzz = Fuzz { corpus: &corpus, words: &WORDS, runs: RUNS, input_max: INPUT_MAX_BYTES };
    let mut read = 0;
    fuzz.run(|input| {
        let text = String::from_utf8_lossy(input);
        let mut outcomes = Vec::new();
        for format in [Format::Json, Format::Yaml, Format::Toml] {
            outcomes.push(match parse(&text, format) {
                Ok(spec) => {
                    read += 1;
                    reads_back(&spec);
                    format!("{format:?} {:?}", spec.update.strategy)
                }
                Err(problems) => kinds(&problems),
            });
        }
        outcomes.join(" / ")
    });
    assert!(read > 100, "only {read} were read: the corpus is no good");
}
