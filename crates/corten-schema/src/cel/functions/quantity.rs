//! Quantities as `1.5Gi` and `100m`: compared and computed with.

use super::{Declaration, Out, STRING_TYPE, Type, as_opaque, declare, error, no_overload, opaque, string};
use cel::Value;
use cel::common::types::INT_TYPE;
use cel::objects::Opaque;
use std::cmp::Ordering;

pub(super) fn declarations() -> Vec<Declaration> {
    let quantity = || Type::new_opaque_type("kubernetes.Quantity");
    vec![
        declare!(fn "isQuantity"(STRING_TYPE) => is_quantity),
        declare!(fn "quantity"(STRING_TYPE) => to_quantity),
        declare!(method "sign"(quantity()) => sign),
        declare!(method "isInteger"(quantity()) => is_integer),
        declare!(method "asInteger"(quantity()) => as_integer),
        declare!(method "asApproximateFloat"(quantity()) => as_float),
        declare!(method "isGreaterThan"(quantity(), quantity()) => is_greater),
        declare!(method "isLessThan"(quantity(), quantity()) => is_less),
        declare!(method "compareTo"(quantity(), quantity()) => compare_to),
        declare!(method "add"(quantity(), quantity()) => add),
        declare!(method "add"(quantity(), INT_TYPE) => add),
        declare!(method "sub"(quantity(), quantity()) => sub),
        declare!(method "sub"(quantity(), INT_TYPE) => sub),
    ]
}

/// An amount in billionths, the smallest unit that Kubernetes keeps.
#[derive(Debug, PartialEq, Eq)]
struct Quantity(i128);

const ONE: i128 = 1_000_000_000;

impl Opaque for Quantity {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Quantity"
    }
}

impl Quantity {
    fn parse(text: &str) -> Option<Quantity> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
            .unwrap_or(text.len());
        // The sign of an exponent belongs to the suffix.
        let (number, suffix) = text.split_at(end);
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !numeric(whole) || !numeric(fraction) || digits.len() > 30 {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let (numerator, denominator) = unit(suffix)?;
        let scaled = mantissa.checked_mul(numerator)?.checked_mul(ONE)?;
        let divisor = scale.checked_mul(denominator)?;
        // What is smaller than a billionth is rounded up.
        let amount = scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0);
        Some(Quantity(if negative { -amount } else { amount }))
    }
}

/// What a suffix multiplies with, as a fraction.
fn unit(suffix: &str) -> Option<(i128, i128)> {
    let power = |exponent: u32| 10_i128.checked_pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, power(9)?),
        "u" => (1, power(6)?),
        "m" => (1, power(3)?),
        "k" => (power(3)?, 1),
        "M" => (power(6)?, 1),
        "G" => (power(9)?, 1),
        "T" => (power(12)?, 1),
        "P" => (power(15)?, 1),
        "E" => (power(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = power(exponent.unsigned_abs())?;
            if exponent < 0 { (1, size) } else { (size, 1) }
        }
    })
}

fn is_quantity(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("isQuantity"));
    };
    Ok(Value::Bool(Quantity::parse(string(text)).is_some()))
}

fn to_quantity(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("quantity"));
    };
    let message = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    Quantity::parse(string(text))
        .map(opaque)
        .ok_or_else(|| error("quantity", message))
}

fn one<'a>(arguments: &'a [Value], function: &str) -> Result<&'a Quantity, cel::ExecutionError> {
    let [quantity] = arguments else {
        return Err(no_overload(function));
    };
    as_opaque(quantity, function)
}

fn sign(arguments: &[Value]) -> Out {
    Ok(Value::Int(
        i64::try_from(one(arguments, "sign")?.0.signum()).unwrap_or_default(),
    ))
}

fn is_integer(arguments: &[Value]) -> Out {
    let amount = one(arguments, "isInteger")?.0;
    Ok(Value::Bool(amount % ONE == 0 && i64::try_from(amount / ONE).is_ok()))
}

fn as_integer(arguments: &[Value]) -> Out {
    let amount = one(arguments, "asInteger")?.0;
    let whole = i64::try_from(amount / ONE).ok().filter(|_| amount % ONE == 0);
    whole
        .map(Value::Int)
        .ok_or_else(|| error("asInteger", "cannot convert value to integer"))
}

fn as_float(arguments: &[Value]) -> Out {
    Ok(Value::Float(
        one(arguments, "asApproximateFloat")?.0 as f64 / ONE as f64,
    ))
}

fn two(arguments: &[Value], function: &str) -> Result<(i128, i128), cel::ExecutionError> {
    let [left, right] = arguments else {
        return Err(no_overload(function));
    };
    let right = match right {
        Value::Int(whole) => i128::from(*whole) * ONE,
        right => as_opaque::<Quantity>(right, function)?.0,
    };
    Ok((as_opaque::<Quantity>(left, function)?.0, right))
}

fn is_greater(arguments: &[Value]) -> Out {
    two(arguments, "isGreaterThan").map(|(left, right)| Value::Bool(left > right))
}

fn is_less(arguments: &[Value]) -> Out {
    two(arguments, "isLessThan").map(|(left, right)| Value::Bool(left < right))
}

fn compare_to(arguments: &[Value]) -> Out {
    two(arguments, "compareTo").map(|(left, right)| match left.cmp(&right) {
        Ordering::Less => Value::Int(-1),
        Ordering::Equal => Value::Int(0),
        Ordering::Greater => Value::Int(1),
    })
}

fn add(arguments: &[Value]) -> Out {
    let (left, right) = two(arguments, "add")?;
    left.checked_add(right)
        .map(|sum| opaque(Quantity(sum)))
        .ok_or_else(|| error("add", "integer overflow"))
}

fn sub(arguments: &[Value]) -> Out {
    let (left, right) = two(arguments, "sub")?;
    left.checked_sub(right)
        .map(|rest| opaque(Quantity(rest)))
        .ok_or_else(|| error("sub", "integer overflow"))
}
