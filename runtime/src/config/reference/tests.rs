use super::*;

/// Where it is.
#[derive(Debug, serde::Deserialize, Args)]
#[expect(dead_code, reason = "only its shape is looked at")]
struct Sample {
    /// The port
    /// [default: `7400`]
    #[arg(long)]
    port: Option<u16>,
    /// The name that `others` see [default: the host's]
    #[arg(long, value_name = "HOST", env = "SAMPLE_NAME")]
    name: Option<String>,
    #[arg(skip)]
    rules: Vec<Rule>,
    #[arg(skip)]
    #[serde(skip)]
    beside: u8,
}

/// One rule.
#[derive(Debug, Clone, serde::Deserialize, Args)]
struct Rule {
    /// What it is about
    about: String,
    /// Whether it is strict
    strict: bool,
}

#[derive(Debug, serde::Deserialize, Args)]
struct Silent {
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Debug, serde::Deserialize, Args)]
struct Nameless {
    /// The port
    #[arg(long)]
    port: Option<u16>,
}

const EXAMPLES: &str = "port = 7400\nname = \"a\"\n[[rules]]\nabout = \"x\"\nstrict = false\n";

fn sample(examples: &str) -> Result<Reference, ReferenceError> {
    let shapes = [Shape::of::<Sample>(""), Shape::of::<Rule>("rules").in_a_list()];
    Reference::new("sample run", "/etc/knit/sample.toml", &shapes, examples)
}

#[test]
fn a_file_says_every_key_and_holds_none() {
    let text = sample(EXAMPLES).unwrap().commented();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    assert!(text.contains("# The port.\n#port = 7400\n"), "{text}");
    let name = "# The name that `others` see.\n# Default: the host's\n#name = \"a\"\n";
    assert!(text.contains(name), "{text}");
    assert!(
        text.contains("# One rule.\n#[[rules]]\n\n# What it is about.\n#about = \"x\"\n"),
        "{text}"
    );
    assert!(!text.contains("beside"), "{text}");
}

#[test]
fn a_page_gets_its_part_and_keeps_the_rest() {
    let page = "a\n<!-- sample run: made from its types -->\nold\n<!-- sample run: end -->\nb\n";
    let made = sample(EXAMPLES).unwrap().put_into(page).unwrap();
    assert!(
        made.starts_with("a\n") && made.ends_with("-->\nb\n") && !made.contains("old"),
        "{made}"
    );
    for row in [
        "| `port` | number | `7400` | The port | `--port` |",
        "| `name` | text: HOST | the host's | The name that `others` see | `--name`, `SAMPLE_NAME` |",
        "| `about` | text | required | What it is about |",
        "| `strict` | true or false | `false` | Whether it is strict |",
    ] {
        assert!(made.contains(row), "{row}: {made}");
    }
    assert_eq!(sample(EXAMPLES).unwrap().put_into("no marks"), None);
}

#[test]
fn each_key_is_tried_on_its_own() {
    let trials = sample(EXAMPLES).unwrap().trials();
    let keys: Vec<&str> = trials.iter().map(|trial| trial.key.as_str()).collect();
    assert_eq!(keys, ["port", "name", "rules.about", "rules.strict"]);
    assert_eq!(
        (trials[0].with.as_str(), trials[0].without.as_deref()),
        ("port = 7400\n", Some(""))
    );
    assert_eq!((trials[1].with.as_str(), &trials[1].without), ("name = \"a\"\n", &None));
    assert!(trials[2].with.contains("strict = false") && !trials[2].with.contains("port"));
}

#[test]
fn a_default_that_is_none_and_a_file_that_says_something_are_told() {
    let port = |default: u16| {
        move |text: &str| {
            let file: toml::Table = text.parse().unwrap();
            file.get("port").map_or(default.into(), |port| port.as_integer().unwrap())
        }
    };
    let reference = sample(EXAMPLES).unwrap();
    reference.hold_values(port(7400)).unwrap();
    let told = reference.hold_values(port(7401)).unwrap_err();
    assert_eq!(told, "port is not the default: 7400, not 7401");
    let told = reference.hold_values(str::is_empty).unwrap_err();
    assert_eq!(told, "the file in which nothing is said says false, not true");
}

#[test]
fn what_is_missing_or_too_much_is_told() {
    for (examples, words) in [
        ("port = 7400\n[[rules]]\nabout = \"x\"\nstrict = false", "name has no example"),
        ("port = 7400\nname = \"a\"\n[[rules]]\nabout = \"x\"", "rules.strict has no example"),
        (&EXAMPLES.replace("7400", "7401"), "the doc comment of port names another default"),
        ("prot = 1", "there is an example of prot, which is no key"),
        ("port =", "the examples are no TOML"),
    ] {
        let error = sample(examples).unwrap_err().to_string();
        assert!(error.starts_with(words), "{examples}: {error}");
    }
    let told = |shapes: &[Shape], examples| {
        Reference::new("x", "x", shapes, examples).unwrap_err().to_string()
    };
    assert_eq!(told(&[Shape::of::<Silent>("")], "port = 1"), "port has no doc comment");
    let table = [Shape::of::<Nameless>("rules")];
    assert_eq!(told(&table, "[rules]\nport = 1"), "rules has no doc comment");
}
