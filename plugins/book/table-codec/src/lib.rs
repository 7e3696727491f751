//! Reads and writes texts between semicolons.

use culvert_plugin::codec::{Codec, Node, Schema, Span, Tree};
use culvert_plugin::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Config)]
struct Settings {
    /// The names of the columns, in order. A schema in a file names them in their place: `id;name`.
    #[config(default = "", importance = "high", example = "id,name")]
    columns: Vec<String>,
    /// What stands between two cells.
    #[config(default = ";", min_length = 1, max_length = 1)]
    separator: String,
}

struct Table {
    columns: Columns,
    separator: String,
}

/// The names of columns.
type Columns = Vec<String>;

/// Column and cell of a row.
type Row = BTreeMap<String, String>;

impl Codec for Table {
    type Config = Settings;
    type Schema = Columns;

    const ABOUT: About =
        culvert_plugin::about!().promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Table, Failure> {
        Ok(Table {
            columns: settings.columns,
            separator: settings.separator,
        })
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        let is_twice = |name: &&String| settings.columns.iter().filter(|other| other == name).count() > 1;
        let twice = settings.columns.iter().find(is_twice);
        let told = twice.map(|name| Verdict::error("columns", format!("{name} is there twice")));
        told.into_iter().collect()
    }

    fn prepare(&mut self, schema: &Schema) -> Result<Columns, Rejection> {
        let columns: Columns = match schema.text.trim_end() {
            "" => self.columns.clone(),
            text => text.split(&self.separator).map(str::to_owned).collect(),
        };
        match columns.as_slice() {
            [] => Err(Rejection::new(
                "schema-invalid",
                "set columns, or name a schema in a file",
            )),
            names if names.iter().any(String::is_empty) => {
                Err(Rejection::new("schema-invalid", "a column has no name"))
            }
            _ => Ok(columns),
        }
    }

    fn decode(&mut self, writer: &Columns, reader: &Columns, bytes: &[u8]) -> Result<Tree, Fault> {
        let row = self.read(writer, bytes)?;
        let count = 2 * reader.len() as u32;
        let mut nodes = vec![Node::Entries(Span { first: 1, count })];
        for column in reader {
            nodes.push(Node::Text(column.clone()));
            nodes.push(row.get(column).cloned().map_or(Node::Null, Node::Text));
        }
        Ok(Tree { nodes })
    }

    fn encode(&mut self, writer: &Columns, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let entries = match tree.nodes.as_slice() {
            [Node::Entries(_), entries @ ..] => entries,
            _ => return Err(Rejection::new("schema-mismatch", "a row is an object").into()),
        };
        let mut row = Row::new();
        for entry in entries.chunks(2) {
            match entry {
                [Node::Text(column), Node::Text(cell)] => row.insert(column.clone(), cell.clone()),
                _ => return Err(Rejection::new("schema-mismatch", "a cell is a text").into()),
            };
        }
        Ok(self.write(writer, &row, bytes)?)
    }

    fn to_json(
        &mut self,
        writer: &Columns,
        reader: &Columns,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let row = self.read(writer, bytes)?;
        let member = |column: &String| (column.clone(), Value::from(row.get(column).cloned()));
        let object: Map<String, Value> = reader.iter().map(member).collect();
        json.extend_from_slice(Value::Object(object).to_string().as_bytes());
        Ok(())
    }

    fn from_json(&mut self, writer: &Columns, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let row: Row = serde_json::from_slice(json)
            .map_err(|error| Rejection::new("schema-mismatch", error.to_string()))?;
        Ok(self.write(writer, &row, bytes)?)
    }
}

impl Table {
    fn read(&self, columns: &Columns, bytes: &[u8]) -> Result<Row, Rejection> {
        let text = std::str::from_utf8(bytes).map_err(|_| Rejection::new("not-utf-8", "it is no text"))?;
        let cells: Vec<&str> = text.split(&self.separator).collect();
        if cells.len() != columns.len() {
            let reason = format!("{} cells, and the schema has {}", cells.len(), columns.len());
            return Err(Rejection::new("wrong-count", reason));
        }
        let cells = cells.into_iter().map(str::to_owned);
        Ok(columns.iter().cloned().zip(cells).collect())
    }

    fn write(&self, columns: &Columns, row: &Row, bytes: &mut Vec<u8>) -> Result<(), Rejection> {
        let refuse =
            |code: &str, reason: &str, name: &str| Rejection::new(code, reason).at(format!("/{name}"));
        if let Some(strange) = row.keys().find(|name| !columns.contains(name)) {
            return Err(refuse("schema-mismatch", "there is no such column", strange));
        }
        let cell = |column: &String| match row.get(column) {
            Some(cell) if !cell.contains(&self.separator) => Ok(cell.as_str()),
            Some(_) => Err(refuse("out-of-range", "a cell holds the separator", column)),
            None => Err(refuse("schema-mismatch", "it is not there", column)),
        };
        let cells = columns.iter().map(cell).collect::<Result<Vec<_>, _>>()?;
        bytes.extend_from_slice(cells.join(&self.separator).as_bytes());
        Ok(())
    }
}

culvert_plugin::export_codec!(Table);

#[cfg(test)]
mod tests;
