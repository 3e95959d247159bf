//! `--ztunnel PATH` and `--istiod PATH`: Istio's own programs in place of our halves of the mesh, for the demo and for the tests.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The programs that were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stock {
    ztunnel: Option<PathBuf>,
    istiod: Option<PathBuf>,
}

impl Stock {
    /// Takes the two flags out of the arguments; the rest is returned.
    pub(crate) fn parse(arguments: &[String]) -> Result<(Self, Vec<&String>)> {
        let mut stock = Self::default();
        let mut rest = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let half = match argument.as_str() {
                "--ztunnel" => &mut stock.ztunnel,
                "--istiod" => &mut stock.istiod,
                _ => {
                    rest.push(argument);
                    continue;
                }
            };
            let path = arguments
                .next()
                .with_context(|| format!("{argument} wants the path of a program"))?;
            let path = std::path::absolute(path)?;
            ensure!(path.is_file(), "{argument}: there is no file {}", path.display());
            *half = Some(path);
        }
        Ok((stock, rest))
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let halves = [("ztunnel", &self.ztunnel), ("istiod", &self.istiod)];
        let given = |(name, path): (_, &Option<PathBuf>)| Some((name, path.as_ref()?.display().to_string()));
        halves.map(given).into_iter().flatten()
    }

    /// The same as flags of `corten up`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.given()
            .flat_map(|(name, path)| [format!("--{name}"), path])
            .collect()
    }

    /// The same as variables that the end-to-end tests read.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (String, String)> {
        self.given()
            .map(|(name, path)| (format!("CORTEN_STOCK_{}", name.to_uppercase()), path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_taken_out_and_passed_on() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let program = std::env::current_exe().unwrap().display().to_string();
        let arguments = words(&format!("--ztunnel {program} mesh"));
        let (stock, rest) = Stock::parse(&arguments).unwrap();
        assert_eq!(rest, ["mesh"]);
        assert_eq!(stock.arguments(), ["--ztunnel".to_owned(), program.clone()]);
        let environment: Vec<_> = stock.environment().collect();
        assert_eq!(environment, [("CORTEN_STOCK_ZTUNNEL".to_owned(), program)]);
        for (wrong, says) in [
            ("--istiod", "--istiod wants the path of a program"),
            ("--istiod /nowhere/istiod", "--istiod: there is no file /nowhere/istiod"),
        ] {
            let error = Stock::parse(&words(wrong)).unwrap_err().to_string();
            assert_eq!(error, says);
        }
    }
}
