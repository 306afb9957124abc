use proptest::prelude::*;

use super::*;

/// A node in Frankfurt.
fn node(attribute: &Attribute) -> Option<Value> {
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    match attribute {
        Attribute::Label(name) => match name.as_str() {
            "region" => text("eu"),
            "rack" => text("9"),
            "empty" => text(""),
            "odd name" => text("a \"b\" \\"),
            _ => None,
        },
        Attribute::Arch => text("amd64"),
        Attribute::Kernel => text("6.1.0-21-amd64"),
        Attribute::Docker => None,
        Attribute::Name => text("fra-1"),
        Attribute::Id => text("0123456789abcdef0123456789abcdef"),
        Attribute::Cpus => Some(Value::Number(4)),
        Attribute::Memory => Some(Value::Number(2_000_000_000)),
    }
}

fn parsed(text: &str) -> Constraint {
    Constraint::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

#[test]
fn constraints_hold_or_fail_as_they_read() {
    for (text, expected) in [
        (r#"label.region == "eu""#, true),
        (r#"label.region == 'eu' && arch == "amd64""#, true),
        (r#"label.region == "us" || arch == "amd64""#, true),
        (r#"label.region == "us" || label.region == "eu" && arch == "arm64""#, false),
        (r#"(label.region == "us" || label.region == "eu") && arch == "amd64""#, true),
        ("label.region", true),
        ("label.empty", true),
        ("label.gpu", false),
        ("!label.gpu", true),
        ("!!label.gpu", false),
        (r#"label.gpu == "yes""#, false),
        (r#"label.gpu != "yes""#, true),
        (r#"!(label.gpu == "yes")"#, true),
        (r#"label.gpu in ["yes", "no"]"#, false),
        ("label.gpu < 3", false),
        ("label.gpu >= 3", false),
        (r#"label.region in ["us", "eu"]"#, true),
        (r#"!(label.region in ["us"])"#, true),
        (r#"label["odd name"] == "a \"b\" \\""#, true),
        ("label.rack < 10", true),
        ("label.rack == 9", true),
        ("label.rack >= 9.5", false),
        ("label.region < 3", false),
        ("label.region > 3", false),
        ("kernel >= 5.10", true),
        (r#"kernel >= "6.1.0""#, true),
        ("kernel == 6.1", true),
        ("kernel > 6.1", false),
        ("kernel < 6.10", true),
        ("docker >= 20.10", false),
        ("docker != 20.10", true),
        ("cpus >= 4 && cpus < 4.5", true),
        ("cpus in [2, 4]", true),
        ("memory >= 2g", false),
        ("memory >= 1.5g", true),
        ("memory > 1900m", true),
        (r#"name == "fra-1""#, true),
        (r#"id != "0123456789abcdef0123456789abcdef""#, false),
    ] {
        let constraint = parsed(text);
        assert_eq!(constraint.eval(&node), expected, "{text}");
        assert_eq!(constraint.failing(&node).is_empty(), expected, "{text}");
        assert_eq!(constraint.to_string(), text);
    }
}

#[test]
fn every_part_that_fails_is_told_with_what_the_node_says() {
    for (text, told) in [
        (
            r#"label.region == "us" && label.gpu && arch == "amd64""#,
            &[
                r#"label.region == "us" fails (it is "eu")"#,
                "label.gpu fails (it has no label gpu)",
            ][..],
        ),
        ("memory >= 2g", &["memory >= 2g fails (it is 1.8g)"]),
        ("docker > 20.10", &["docker > 20.10 fails (it does not say its docker)"]),
        ("kernel >= 6.6", &["kernel >= 6.6 fails (it is 6.1.0-21-amd64)"]),
        ("!label.region", &[r#"!label.region fails (it is "eu")"#]),
        (
            r#"(label.gpu || arch == "arm64") && cpus>64"#,
            &[
                r#"label.gpu || arch == "arm64" fails (it has no label gpu, arch is "amd64")"#,
                "cpus > 64 fails (it is 4)",
            ],
        ),
    ] {
        assert_eq!(parsed(text).failing(&node), told, "{text}");
    }
}

#[test]
fn what_cannot_be_read_says_the_column_and_what_was_expected() {
    for (text, told) in [
        (
            "",
            "column 1: expected label.NAME, arch, kernel, docker, name, id, cpus or memory, not the end",
        ),
        ("region == \"eu\"", "not \"region\"; a node's label is label.region"),
        ("label.region = \"eu\"", "column 14: write \"==\", not \"=\""),
        ("label.region == eu", "column 17: a text stands in quotes: \"eu\""),
        ("label.region == \"eu", "column 17: this text has no closing \""),
        ("label.region == \"e\\n\"", "column 19: after \"\\\" only"),
        ("label.region ==", "column 16: expected a text in quotes or a number, not the end"),
        ("label == \"x\"", "column 1: expected label.NAME or label[\"NAME\"]"),
        ("label[region]", "column 7: expected a label's name in quotes, not \"region\""),
        ("arch", "column 5: expected a comparison such as arch == …"),
        ("arch < \"b\"", "column 6: arch has no order; compare it by == or !="),
        ("label.a & label.b", "column 9: write \"&&\", not \"&\""),
        ("label.a label.b", "column 9: expected \"&&\", \"||\" or the end, not \"label.b\""),
        ("label.a and label.b", "column 9: expected \"&&\""),
        ("not label.b", "column 1: write \"!\", not not"),
        ("(label.a", "column 9: expected \")\", not the end"),
        ("label.a)", "column 8: expected \"&&\""),
        ("label.a in \"b\"", "column 12: expected a list such as"),
        ("label.a in []", "column 13: expected a text in quotes or a number, not \"]\""),
        ("label.a in [\"b\" \"c\"]", "column 17: expected \",\" or \"]\""),
        (
            "!label.a == \"b\"",
            "column 1: put what \"!\" negates in parentheses: !(label.a == \"b\")",
        ),
        ("memory > 2x", "column 10: expected a size such as 512m or 2g, not \"2x\""),
        ("cpus > \"many\"", "column 8: expected a number such as 4, not \"many\""),
        ("label.rack > \"x\"", "column 14: expected a number"),
        ("kernel > \"new\"", "column 10: expected a version such as 5.10, not \"new\""),
        ("ü", "column 1: 'ü' means nothing here"),
    ] {
        let problem = Constraint::parse(text).expect_err(text);
        assert!(problem.contains(told), "{text}: {problem}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let deep = format!("{}label.a{}", "(".repeat(900), ")".repeat(900));
    assert!(Constraint::parse(&deep).unwrap_err().contains("nests more than 32 deep"));
    assert!(Constraint::parse(&"!".repeat(1900)).unwrap_err().contains("deep"));
    assert!(Constraint::parse(&" ".repeat(2001)).unwrap_err().contains("at most 2000"));
    let wide = vec!["label.a"; 180].join(" && ");
    assert!(Constraint::parse(&wide).is_ok());
}

#[test]
fn a_constraint_travels_as_its_text() {
    let constraint = parsed("label.a   &&cpus>2");
    let json = serde_json::to_string(&constraint).unwrap();
    assert_eq!(json, "\"label.a   &&cpus>2\"");
    assert_eq!(serde_json::from_str::<Constraint>(&json).unwrap(), constraint);
    assert!(serde_json::from_str::<Constraint>("\"&&\"").is_err());
}

fn expressions() -> impl Strategy<Value = Expr> {
    let text = |text: String| Literal { text, quoted: true, number: None };
    let label = "[a-z]{1,3}|[a-z\"\\\\ ]{0,4}".prop_map(Attribute::Label);
    let leaf = prop_oneof![
        label.clone().prop_map(Expr::Has),
        (label.clone(), "[a-z\"'\\\\ ]{0,5}").prop_map(move |(label, value)| Expr::Compare(
            label,
            Op::Unequal,
            text(value)
        )),
        (label, prop::collection::vec("[a-z]{0,3}".prop_map(text), 1..3))
            .prop_map(|(label, values)| Expr::In(label, values)),
        (0_u64..100).prop_map(|count| {
            let number = Some(u128::from(count) * 1000);
            let literal = Literal { text: count.to_string(), quoted: false, number };
            Expr::Compare(Attribute::Cpus, Op::GreaterOrEqual, literal)
        }),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|expr| Expr::Not(Box::new(expr))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Any),
            prop::collection::vec(inner, 2..4).prop_map(Expr::All),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
        drop(Constraint::parse(&text));
    }

    #[test]
    fn no_text_of_its_own_signs_makes_the_reader_panic(
        text in "(label\\.a|label|arch|cpus|in|==|!=|<=|>|!|&&|\\|\\||\\(|\\)|\\[|\\]|,|\"x\"|4|2g| ){0,30}",
    ) {
        if let Ok(constraint) = Constraint::parse(&text) {
            prop_assert_eq!(constraint.eval(&node), constraint.failing(&node).is_empty());
        }
    }

    #[test]
    fn what_is_printed_reads_back(expr in expressions()) {
        let once = parsed(&expr.to_string()).tree;
        prop_assert_eq!(parsed(&once.to_string()).tree, once.clone());
        prop_assert_eq!(eval::holds(&expr, &node), eval::holds(&once, &node));
    }
}
