//! Rules as programs.

use super::functions;
use crate::schema::{Rule, Schema};
use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program, Value};
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Longer rules are not compiled: no API has them, and the parser recurses over what it reads.
const LENGTH_MAX: usize = 10_000;
/// A rule's tree may be this deep, so that the interpreter, which recurses over it, fits into any thread's stack.
const DEPTH_MAX: usize = 120;
/// Enough for the parser with the worst rule of the greatest length.
const PARSER_STACK_BYTES: usize = 256 << 20;

pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(functions::environment()));

/// The compiled rules of one place in a schema.
#[derive(Default)]
pub struct CompiledRules {
    pub(super) rules: Vec<CompiledRule>,
}

impl fmt::Debug for CompiledRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.rules.len())
    }
}

/// One rule, with the reason it cannot be compiled where that is so.
pub(super) struct CompiledRule {
    pub(super) program: Result<Arc<Program>, String>,
    pub(super) message: Option<Result<Arc<Program>, String>>,
    pub(super) uses_old_self: bool,
    /// How many loops run inside of each other.
    pub(super) loops: u32,
    /// Whether lists are made of text, which then counts as a list too.
    pub(super) splits: bool,
}

/// The rules at the top of a schema, compiled now if they were not before.
pub(super) fn compiled(schema: &Schema) -> Arc<CompiledRules> {
    let compile = || {
        Arc::new(CompiledRules {
            rules: schema.validations.iter().map(compile_rule).collect(),
        })
    };
    Arc::clone(schema.validations.compiled.get_or_init(compile))
}

impl CompiledRules {
    pub(super) fn problems(&self, rules: &[Rule]) -> Vec<String> {
        let problem = |(compiled, rule): (&CompiledRule, &Rule)| {
            let problem = match (&compiled.program, &compiled.message) {
                (Err(problem), _) => problem,
                (_, Some(Err(problem))) => problem,
                _ => return None,
            };
            Some(warning(rule, problem))
        };
        self.rules.iter().zip(rules).filter_map(problem).collect()
    }
}

/// How a rule that is not enforced is reported.
pub(super) fn warning(rule: &Rule, problem: &str) -> String {
    format!("validation rule {:?} is not enforced here: {problem}", rule.rule.trim())
}

fn compile_rule(rule: &Rule) -> CompiledRule {
    let program = compile(&rule.rule);
    let uses_old_self = program
        .as_ref()
        .is_ok_and(|program| program.references().has_variable("oldSelf"));
    let loops = program.as_ref().map_or(0, |program| loops(program.expression()));
    let splits = program.as_ref().is_ok_and(|program| {
        let references = program.references();
        references.has_function("split") || references.has_function("findAll")
    });
    CompiledRule {
        program,
        message: rule.message_expression.as_deref().map(compile),
        uses_old_self,
        loops,
        splits,
    }
}

/// The programs in use, by their source: versions of a CRD, and kinds of one family, repeat each other's rules.
static PROGRAMS: LazyLock<Mutex<HashMap<Box<str>, Weak<Program>>>> = LazyLock::new(Mutex::default);

fn compile(source: &str) -> Result<Arc<Program>, String> {
    if source.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let shared = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = shared().get(source).and_then(Weak::upgrade) {
        return Ok(program);
    }
    let program = Arc::new(parse_apart(source)?);
    let mut shared = shared();
    shared.retain(|_, program| program.strong_count() > 0);
    shared.insert(source.into(), Arc::downgrade(&program));
    Ok(program)
}

/// Parses in a thread of its own, because only there the stack can be made large enough for any input.
fn parse_apart(source: &str) -> Result<Program, String> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new()
            .stack_size(PARSER_STACK_BYTES)
            .spawn_scoped(scope, || parse(source));
        let parser = parser.map_err(|error| format!("no thread to parse it: {error}"))?;
        parser.join().unwrap_or_else(|_| Err("the parser failed".to_owned()))
    })
}

fn parse(source: &str) -> Result<Program, String> {
    let parsed = ENVIRONMENT.compile(source);
    let program = parsed.map_err(|errors| errors.to_string().split_whitespace().collect::<Vec<_>>().join(" "))?;
    if depth(program.expression()) > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX}"));
    }
    let unknown = program
        .references()
        .functions()
        .into_iter()
        .find(|name| !functions::is_known(name))
        .map(str::to_owned);
    match unknown {
        Some(name) => Err(format!("the function {name:?} is not known")),
        None => Ok(program),
    }
}

/// The longest way down the tree.
fn depth(expression: &IdedExpr) -> usize {
    1 + children(expression).into_iter().map(depth).max().unwrap_or_default()
}

/// How deep loops are nested. What a loop runs over is worked out once, outside of it.
fn loops(expression: &IdedExpr) -> u32 {
    let deepest = |inner: &[&IdedExpr]| inner.iter().map(|inner| loops(inner)).max().unwrap_or_default();
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let inside = [&comprehension.loop_cond, &comprehension.loop_step];
            (1 + deepest(&inside)).max(deepest(&[&comprehension.iter_range, &comprehension.result]))
        }
        _ => deepest(&children(expression)),
    }
}

fn parts(entry: &IdedEntryExpr) -> [Option<&IdedExpr>; 2] {
    match &entry.expr {
        EntryExpr::StructField(field) => [Some(&field.value), None],
        EntryExpr::MapEntry(entry) => [Some(&entry.key), Some(&entry.value)],
    }
}

fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    fn entries(entries: &[IdedEntryExpr]) -> Vec<&IdedExpr> {
        entries.iter().flat_map(parts).flatten().collect()
    }
    match &expression.expr {
        Expr::Call(call) => call.args.iter().chain(call.target.as_deref()).collect(),
        Expr::Comprehension(comprehension) => vec![
            &comprehension.iter_range,
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => entries(&map.entries),
        Expr::Struct(structure) => entries(&structure.entries),
        Expr::Select(select) => vec![&select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

/// Runs a program. The interpreter is someone else's; a panic in it must not take the process along.
pub(super) fn run(program: &Program, context: &Context<'_, '_>) -> Result<Value, ExecutionError> {
    catch_unwind(AssertUnwindSafe(|| program.execute(context)))
        .unwrap_or_else(|_| Err(ExecutionError::InternalError("the interpreter failed".to_owned())))
}
