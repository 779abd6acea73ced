//! Which events a plugin exchanges as the values that they are, and which as JSON.

use ksi_wire::module::Exchange;

use super::super::table::{Column, Table, Tone};

pub(super) fn table(exchanges: &[Exchange]) -> Table {
    let mut table = Table::new(&[
        Column::Text("EVENT"),
        Column::Text("FROM"),
        Column::Text("TO"),
        Column::Text("AS"),
        Column::Text("BECAUSE"),
    ]);
    for exchange in exchanges {
        let cells = [
            exchange.event.clone(),
            exchange.emitter.clone(),
            format!("{}.{}", exchange.module, exchange.handler),
            exchange.form.clone().into_owned(),
            why(exchange),
        ];
        table.row(cells.into_iter().map(|cell| (cell, Tone::Usual)));
    }
    table
}

fn why(exchange: &Exchange) -> String {
    let sent = exchange.sent_type.as_deref().unwrap_or("?");
    let taken = exchange.taken_type.as_deref().unwrap_or("?");
    match &*exchange.why {
        "same_definition" => format!("both mean the same by {sent}"),
        "other_layout" => format!("{sent} is defined, or was compiled, in another way"),
        "other_type" => format!("{sent} is another type than {taken}"),
        "sent_as_json" => format!("the layout of {sent} is not proved"),
        "taken_as_json" => format!("the layout of {taken} is not proved, or it borrows from JSON"),
        "process" => "one of the two lives in a process of its own".to_owned(),
        "python" => "one of the two is in Python".to_owned(),
        "declared_by_name" => "it is declared by its name, and not as a type".to_owned(),
        "not_told" => "it is not told as what the handler takes it".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_says_as_what_and_why() {
        let exchange = |form: &'static str, why: &'static str| Exchange {
            emitter: "shop".into(),
            event: "order:placed".into(),
            form: form.into(),
            handler: "note".into(),
            module: "stock".into(),
            sent_type: Some("shop::Placed".into()),
            taken_type: Some("stock::Placed".into()),
            why: why.into(),
        };
        assert_eq!(
            table(&[exchange("json", "other_type"), exchange("value", "of_later")]).render(),
            "EVENT         FROM  TO          AS     BECAUSE\n\
             order:placed  shop  stock.note  json   shop::Placed is another type than stock::Placed\n\
             order:placed  shop  stock.note  value  of_later"
        );
    }
}
