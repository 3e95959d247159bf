//! Changes of the kernel's rules, as values: rendered to text for readers, applied all or none.

use super::{Chain, Element, Family, Rule, Set, Table};

/// One change within a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes the table; no error if it is there.
    AddTable,
    /// Removes the table and all in it.
    DeleteTable,
    /// Makes the set (its elements are added apart); no error if it is there.
    AddSet(Set),
    /// Removes the set, which no rule may use any more.
    DeleteSet(String),
    /// Makes the chain, without rules; no error if it is there.
    AddChain(Chain),
    /// Removes all rules of the chain.
    FlushChain(String),
    /// Removes the chain, which nothing may jump to any more.
    DeleteChain(String),
    /// Appends a rule to the chain.
    AddRule(String, Rule),
    /// Puts elements into the set.
    AddElements(String, Vec<Element>),
    /// Takes elements (their keys count) out of the set.
    DeleteElements(String, Vec<Element>),
}

/// Changes to one table that take effect together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// The changes, in order.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// No change yet.
    pub fn new(family: Family, table: impl Into<String>) -> Transaction {
        Transaction {
            family,
            table: table.into(),
            operations: Vec::new(),
        }
    }

    /// Adds a change.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Puts `table` in place of whatever table has its name.
    pub fn replace(table: &Table) -> Transaction {
        let mut transaction = Transaction::new(table.family, &table.name);
        // Made first, so that deleting is no error where there is none.
        transaction
            .operations
            .extend([Operation::AddTable, Operation::DeleteTable, Operation::AddTable]);
        transaction.fill(table);
        transaction
    }

    /// Removes the table, if it is there.
    pub fn remove(family: Family, table: impl Into<String>) -> Transaction {
        let mut transaction = Transaction::new(family, table);
        transaction
            .operations
            .extend([Operation::AddTable, Operation::DeleteTable]);
        transaction
    }

    /// All of a table's contents: chains first, since elements and rules may lead to any of them.
    fn fill(&mut self, table: &Table) {
        let ops = &mut self.operations;
        ops.extend(table.sets.iter().map(|set| {
            Operation::AddSet(Set {
                elements: Vec::new(),
                ..set.clone()
            })
        }));
        ops.extend(table.chains.iter().map(|chain| {
            Operation::AddChain(Chain {
                rules: Vec::new(),
                ..chain.clone()
            })
        }));
        for set in table.sets.iter().filter(|set| !set.elements.is_empty()) {
            ops.push(Operation::AddElements(set.name.clone(), set.elements.clone()));
        }
        for chain in &table.chains {
            ops.extend(
                chain
                    .rules
                    .iter()
                    .map(|rule| Operation::AddRule(chain.name.clone(), rule.clone())),
            );
        }
    }
}
