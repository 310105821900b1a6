//! Kubernetes quantities, as far as sizes of volumes need them.
//!
//! See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Bytes in a GiB, the unit in which EC2 counts.
pub const GIB: u128 = 1 << 30;

/// Returns a size in GiB as a quantity.
pub fn gib_quantity(gib: i64) -> String {
    format!("{gib}Gi")
}

/// Returns the bytes of a quantity such as `10Gi`, `1.5G` or `1e9`, fractions rounded up; none when it is
/// no quantity.
pub fn quantity_bytes(quantity: &str) -> Option<u128> {
    let unsigned = quantity.strip_prefix('+').unwrap_or(quantity);
    let digits_end =
        unsigned.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // The number is `digits / 10^fraction.len()`, its unit `numerator / denominator`.
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = unit(suffix)?;
    let divisor = denominator.checked_mul(10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    Some(digits.checked_mul(numerator)?.div_ceil(divisor))
}

/// Returns what a suffix stands for, as a fraction.
fn unit(suffix: &str) -> Option<(u128, u128)> {
    let whole = |factor: u128| Some((factor, 1));
    match suffix {
        "" => whole(1),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => whole(1_000),
        "M" => whole(1_000_000),
        "G" => whole(1_000_000_000),
        "T" => whole(1_000_000_000_000),
        "P" => whole(1_000_000_000_000_000),
        "E" => whole(1_000_000_000_000_000_000),
        "Ki" => whole(1 << 10),
        "Mi" => whole(1 << 20),
        "Gi" => whole(GIB),
        "Ti" => whole(1 << 40),
        "Pi" => whole(1 << 50),
        "Ei" => whole(1 << 60),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("10Gi", Some(10 * GIB)),
            ("10G", Some(10_000_000_000)),
            ("1.5Gi", Some(GIB + GIB / 2)),
            ("0.1", Some(1)),
            ("1e9", Some(1_000_000_000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1E3", Some(1_000)),
            ("1500m", Some(2)),
            ("10737418240", Some(10 * GIB)),
            ("+5Mi", Some(5 << 20)),
            (".5Ki", Some(512)),
            ("", None),
            (".", None),
            ("Gi", None),
            ("1.2.3", None),
            ("-1Gi", None),
            ("10gi", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(quantity_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_size_in_gib_reads_back() {
        assert_eq!(quantity_bytes(&gib_quantity(16_384)), Some(16_384 * GIB));
    }
}
