//! Tables as the commands that `nft -f` takes, one a line: for readers, and to compare with what other implementations send.

use std::fmt::Write as _;

use corten_linux::nft::{Operation, Table, Transaction};

/// The commands that put the tables in place, whatever was there before.
pub fn commands(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let transaction = Transaction::new(table.family, &table.name);
        let mut line = |operation: Operation| {
            // Counters begin at nothing; a command does not say so.
            let command = transaction
                .describe(&operation)
                .replace("counter packets 0 bytes 0", "counter");
            writeln!(text, "{command}").expect("a string takes everything");
        };
        line(Operation::AddTable);
        for set in &table.sets {
            line(Operation::AddSet(set.clone()));
        }
        for chain in &table.chains {
            line(Operation::AddChain(chain.clone()));
        }
        for set in table.sets.iter().filter(|set| !set.elements.is_empty()) {
            line(Operation::AddElements(set.name.clone(), set.elements.clone()));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                line(Operation::AddRule(chain.name.clone(), rule.clone()));
            }
        }
    }
    text
}
