//! What a program needs in order to run: read from its ELF header, so that a program for another machine can be asked too.

use anyhow::{Context, Result, bail, ensure};

/// The parts of an ELF file that say where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// The machine, as OCI images name it.
    pub(crate) architecture: &'static str,
    /// The path of the loader; none of a static program.
    pub(crate) interpreter: Option<String>,
    /// The file names of the shared libraries it is linked with.
    pub(crate) needed: Vec<String>,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// A segment: what it is, where it lies in the file and in memory, and its size in the file.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn at(&self, offset: u64, size: u64) -> Result<&'a [u8]> {
        let begin = usize::try_from(offset)?;
        let end = usize::try_from(offset.checked_add(size).context("an offset is too large")?)?;
        self.0.get(begin..end).context("the file is cut short")
    }

    fn number<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        Ok(self.at(offset, N as u64)?.try_into()?)
    }

    fn u16(&self, offset: u64) -> Result<u16> {
        Ok(u16::from_le_bytes(self.number(offset)?))
    }

    fn u32(&self, offset: u64) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number(offset)?))
    }

    fn u64(&self, offset: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.number(offset)?))
    }

    /// A text that a zero ends.
    fn text(&self, offset: u64) -> Result<String> {
        let rest = self
            .0
            .get(usize::try_from(offset)?..)
            .context("the file is cut short")?;
        let end = rest.iter().position(|byte| *byte == 0).context("a name has no end")?;
        Ok(std::str::from_utf8(&rest[..end])?.to_owned())
    }
}

/// Reads a 64-bit little-endian ELF file, which is what all platforms of ours have.
pub(crate) fn read(file: &[u8]) -> Result<Elf> {
    let bytes = Bytes(file);
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "no 64-bit little-endian ELF file");
    let architecture = match bytes.u16(18)? {
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        other => bail!("machine {other} is none we know the name of"),
    };
    let (table, entry, count) = (bytes.u64(32)?, u64::from(bytes.u16(54)?), u64::from(bytes.u16(56)?));
    let segment = |index: u64| {
        let at = table + index * entry;
        Ok(Segment {
            kind: bytes.u32(at)?,
            offset: bytes.u64(at + 8)?,
            address: bytes.u64(at + 16)?,
            size: bytes.u64(at + 32)?,
        })
    };
    let segments = (0..count).map(segment).collect::<Result<Vec<_>>>()?;
    let of_kind = |kind: u32| segments.iter().find(move |segment| segment.kind == kind);
    let interpreter = of_kind(PT_INTERP).map(|it| bytes.text(it.offset)).transpose()?;
    let mut needed = Vec::new();
    let mut strings = None;
    if let Some(dynamic) = of_kind(PT_DYNAMIC) {
        for index in 0..dynamic.size / 16 {
            let at = dynamic.offset + index * 16;
            match (bytes.u64(at)?, bytes.u64(at + 8)?) {
                (0, _) => break,
                (DT_NEEDED, name) => needed.push(name),
                (DT_STRTAB, address) => strings = Some(address),
                _ => {}
            }
        }
    }
    let needed = if needed.is_empty() {
        Vec::new()
    } else {
        let address = strings.context("there is no table of strings")?;
        let loaded = segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let mut holding = loaded.filter(|it| (it.address..it.address + it.size).contains(&address));
        let segment = holding.next().context("the table of strings is not in the file")?;
        let table = address - segment.address + segment.offset;
        needed
            .into_iter()
            .map(|name| bytes.text(table + name))
            .collect::<Result<_>>()?
    };
    Ok(Elf {
        architecture,
        interpreter,
        needed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program() {
        let elf = read(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert_eq!(elf.architecture == "amd64", cfg!(target_arch = "x86_64"));
        if cfg!(target_env = "gnu") {
            assert!(elf.interpreter.unwrap().contains("ld-linux"));
            assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{:?}", elf.needed);
        }
    }

    #[test]
    fn what_is_no_program() {
        assert!(read(b"#!/bin/sh\n").is_err());
        assert!(read(b"\x7fELF\x02\x01").is_err());
        let mut cut = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        cut.truncate(100);
        assert!(read(&cut).is_err());
    }
}
