use ksi_wire::router::Graph;
use serde_json::json;

use super::*;

fn flow() -> Flow {
    let graph: Graph = serde_json::from_value(json!({
        "nodes": [{"id": "shop", "kind": "plugin", "failed": 2}, {"id": "mail", "kind": "plugin"}],
        "edges": [
            {"from": "client", "to": "order:place", "kind": "emits", "count": 7},
            {"from": "order:place", "to": "shop", "kind": "handles", "count": 7, "failed": 2, "declared": true},
            {"from": "shop", "to": "order:placed", "kind": "emits", "count": 5},
            {"from": "shop", "to": "order:lost", "kind": "emits", "declared": true},
            {"from": "order:*", "to": "mail", "kind": "handles", "declared": true},
            {"from": "mail", "to": "mail:sent", "kind": "emits", "count": 5},
            {"from": "mail:sent", "to": "mail", "kind": "handles", "count": 5},
            {"from": "shop", "to": "shop:gone", "kind": "emits", "count": 1},
            {"from": "never:asked", "to": "shop", "kind": "handles", "declared": true},
        ],
    }))
    .expect("a graph as the host sends it");
    Flow::of(graph, false)
}

/// What a drawing shows as text, without titles and styles.
fn texts(svg: &str) -> Vec<&str> {
    let parts = svg.split("<text").skip(1);
    parts.filter_map(|part| part.split_once('>')?.1.split_once("</text>")).map(|it| it.0).collect()
}

#[test]
fn columns_have_their_nodes_and_what_is_wrong_is_said_in_words_and_shapes() {
    let svg = svg(&flow());
    let expected = [
        "Who emits and who handles which event",
        // On lines.
        "\u{21bb}",
        "\u{2715} 2",
        "\u{21bb}",
        "emitted by",
        "client",
        "shop",
        "mail",
        "\u{21bb} cycle",
        "events",
        "never:asked",
        "nobody emits it",
        "order:place",
        "order:lost",
        "order:placed",
        "mail:sent",
        "\u{21bb} cycle",
        "shop:gone",
        "nobody handles it",
        "patterns",
        "order:*",
        "handled by",
        "shop",
        "\u{2715} 2 failed",
        "mail",
        "\u{21bb} cycle",
        "dotted: declared, not seen so far; wider: more often; dashed line: a pattern takes it",
        "\u{2715} failed: calls that failed, panicked, crashed, timed out or were rejected",
        "hollow and dashed: nobody handles it, or nobody has emitted it so far",
        "\u{21bb} cycle: mail, mail:sent",
    ];
    assert_eq!(texts(&svg), expected);
    for (title, class) in [
        ("shop:gone", "node dead"),
        ("never:asked", "node dead"),
        ("mail:sent", "node cycle"),
        ("order:place \u{2192} shop: 7 so far, 2 failed", "line failed"),
        ("shop \u{2192} order:lost: declared, not seen so far", "line unseen"),
        ("order:placed \u{2192} order:*: the pattern takes it", "line takes"),
        ("mail:sent \u{2192} mail: 5 so far, part of a cycle", "line cycle"),
    ] {
        let node = svg.lines().find(|line| line.contains(&format!("<title>{title}</title>")));
        let node = node.unwrap_or_else(|| panic!("no {title}:\n{svg}"));
        assert!(node.contains(&format!("class=\"{class}\"")), "{class}: {node}");
    }
    assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("role=\"img\""));
    assert_eq!(svg, super::svg(&flow()), "the same graph is drawn the same way");
}

#[test]
fn names_are_text_whatever_they_are() {
    let hostile = "</text><script>alert(\"1\")</script>&'\u{202e}\u{1b}[2J\u{ffff}";
    let graph: Graph = serde_json::from_value(json!({
        "nodes": [{"id": hostile, "kind": "plugin"}],
        "edges": [{"from": hostile, "to": format!("x:{hostile}"), "kind": "emits", "count": 1},
                  {"from": format!("y:{hostile}"), "to": hostile, "kind": "handles", "count": 0, "failed": 1}],
    }))
    .expect("a graph");
    let svg = svg(&Flow::of(graph, false));
    assert!(!svg.contains("<script") && !svg.contains(['\u{1b}', '\u{202e}', '\u{ffff}']), "{svg}");
    assert!(svg.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"), "{svg}");
    // What opens is what closes, and nothing else does.
    for tag in ["svg", "g", "text", "title", "desc", "style"] {
        let opened =
            svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let of_amp = svg.split('&').skip(1).all(|rest| {
        ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|entity| rest.starts_with(entity))
    });
    assert!(of_amp, "{svg}");
}

#[test]
fn a_long_name_is_cut_and_whole_in_its_title_and_an_empty_graph_is_still_a_drawing() {
    let long = format!("x:{}", "a".repeat(200));
    let graph: Graph = serde_json::from_value(json!({
        "nodes": [{"id": "p", "kind": "plugin"}],
        "edges": [{"from": "p", "to": long, "kind": "emits", "count": u64::MAX}],
    }))
    .expect("a graph");
    let drawn = svg(&Flow::of(graph, false));
    assert!(drawn.contains(&format!("<title>{long}</title>")), "{drawn}");
    assert!(texts(&drawn).iter().all(|text| text.chars().count() <= 120), "{drawn}");
    let empty = svg(&Flow::default());
    assert!(empty.starts_with("<svg ") && empty.ends_with("</svg>\n"), "{empty}");
    assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
}
