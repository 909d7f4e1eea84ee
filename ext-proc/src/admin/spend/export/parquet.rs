//! Parquet with Snappy. What is written leaves at once; the parts' descriptions stay until the end, so parts are large.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::Format;
use super::columns::{COLUMNS, Cell, Column, Kind};
use crate::store::SpendRow;

/// Rows of a part (row group).
const PART: usize = 20_000;

/// Bytes on their way to the client.
#[derive(Clone, Default)]
struct Outlet(Arc<Mutex<Vec<u8>>>);

impl Outlet {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) struct Parquet {
    writer: SerializedFileWriter<Outlet>,
    outlet: Outlet,
    waiting: Vec<SpendRow>,
}

impl Parquet {
    pub(super) fn new() -> anyhow::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let outlet = Outlet::default();
        let writer = SerializedFileWriter::new(outlet.clone(), Arc::new(schema()?), Arc::new(properties))?;
        Ok(Self { writer, outlet, waiting: Vec::new() })
    }

    /// Writes the waiting rows as one part.
    fn part(&mut self) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &COLUMNS {
            let Some(mut writer) = group.next_column()? else { break };
            let cells = self.waiting.iter().map(column.of);
            match column.kind {
                Kind::Text => {
                    let cells = cells.map(|cell| match cell {
                        Cell::Text(text) => text.map(|text| ByteArray::from(text.as_bytes().to_vec())),
                        Cell::Owned(text) => Some(ByteArray::from(text.into_bytes())),
                        Cell::Number(_) | Cell::Flag(_) => None,
                    });
                    let (levels, values) = split(cells);
                    writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
                }
                Kind::Number => {
                    let (levels, values) =
                        split(cells.map(|cell| if let Cell::Number(number) = cell { number } else { None }));
                    writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
                }
                Kind::Flag => {
                    let (levels, values) =
                        split(cells.map(|cell| if let Cell::Flag(flag) = cell { Some(flag) } else { None }));
                    writer.typed::<BoolType>().write_batch(&values, Some(&levels), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
        self.waiting.clear();
        Ok(())
    }
}

impl Format for Parquet {
    fn rows(&mut self, rows: &[SpendRow]) -> anyhow::Result<Vec<u8>> {
        self.waiting.extend_from_slice(rows);
        if self.waiting.len() >= PART {
            self.part()?;
        }
        Ok(self.outlet.take())
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<Vec<u8>> {
        if !self.waiting.is_empty() {
            self.part()?;
        }
        self.writer.finish()?;
        Ok(self.outlet.take())
    }
}

/// Which values are there (1), and those.
fn split<T>(cells: impl Iterator<Item = Option<T>>) -> (Vec<i16>, Vec<T>) {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    (levels, values)
}

/// Every column may be without a value.
fn schema() -> anyhow::Result<Type> {
    let field = |column: &Column| -> anyhow::Result<_> {
        let (physical, converted) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
            Kind::Number => (Physical::INT64, ConvertedType::NONE),
            Kind::Flag => (Physical::BOOLEAN, ConvertedType::NONE),
        };
        let field = Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(converted)
            .build()?;
        Ok(Arc::new(field))
    };
    let fields = COLUMNS.iter().map(field).collect::<anyhow::Result<_>>()?;
    Ok(Type::group_type_builder("spend").with_fields(fields).build()?)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    #[test]
    fn rows_are_read_back_out_of_several_parts() {
        let row = |n: u64| SpendRow {
            call_id: format!("c{n}"),
            cost_nanos: n.is_multiple_of(2).then_some(i64::MAX - 1),
            prompt_tokens: n,
            estimated: n == 3,
            team_id: (n == 1).then(|| "t".to_owned()),
            ..SpendRow::default()
        };
        let mut format = Parquet::new().unwrap();
        let mut bytes = Vec::new();
        for part in 0..3 {
            let rows: Vec<SpendRow> = (0..PART as u64 / 2 + 1).map(|n| row(n + part)).collect();
            bytes.extend(format.rows(&rows).unwrap());
        }
        assert!(bytes.len() > 4, "the first part has left before the end");
        bytes.extend(Box::new(format).end().unwrap());
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), (PART / 2 + 1) * 3);
        let names: Vec<&String> = rows[0].get_column_iter().map(|(name, _)| name).collect();
        let at = |name: &str| names.iter().position(|known| *known == name).unwrap();
        assert_eq!(rows[0].get_long(at("spend_nanos")).unwrap(), i64::MAX - 1);
        assert!(rows[1].get_long(at("spend_nanos")).is_err(), "unknown, and not 0");
        assert_eq!(rows[1].get_string(at("team_id")).unwrap(), "t");
        assert!(rows[3].get_bool(at("estimated")).unwrap());
        assert_eq!(rows[3].get_string(at("request_id")).unwrap(), "c3");
    }
}
