use alloc::vec::Vec;

use super::{
    super::{
        BinlogError, ColumnKind, Result,
        reader::{big_endian, little_endian},
    },
    number::{write_2, write_padded, write_u64},
};

/// A point in the calendar as MySQL keeps it: any field may be zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calendar {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
}

/// Appends the text of a temporal value, without quotes. TIMESTAMP is in UTC.
pub(super) fn write(out: &mut Vec<u8>, kind: ColumnKind, value: &[u8]) -> Result<()> {
    match kind {
        ColumnKind::Date => {
            let packed = little_endian(value);
            write_date(out, packed >> 9, packed >> 5 & 15, packed & 31);
        }
        ColumnKind::Time { fsp } => {
            let (whole, fraction) = split(value, 3)?;
            let time = whole.unsigned_abs();
            // A fraction of a negative time counts from the next whole second down.
            let (time, fraction) = match (whole < 0, fraction) {
                (true, 1..) => (time - 1, (1 << (8 * (value.len() - 3))) - fraction),
                _ => (time, fraction),
            };
            write_time(out, whole < 0, time >> 12 & 1023, time >> 6 & 63, time & 63);
            write_fraction(out, fraction, fsp);
        }
        ColumnKind::DateTime { fsp } => {
            let (whole, fraction) = split(value, 5)?;
            let packed = u64::try_from(whole).map_err(|_| malformed())?;
            write_calendar(out, &unpack_datetime(packed));
            write_fraction(out, fraction, fsp);
        }
        ColumnKind::Timestamp { fsp } => {
            let (seconds, fraction) = value.split_at_checked(4).ok_or_else(malformed)?;
            let fraction = big_endian(fraction);
            write_timestamp(out, big_endian(seconds), fraction);
            write_fraction(out, fraction, fsp);
        }
        ColumnKind::TimeOld => {
            let digits = super::sign_extend(little_endian(value), 3);
            let time = digits.unsigned_abs();
            write_time(out, digits < 0, time / 10_000, time / 100 % 100, time % 100);
        }
        ColumnKind::DateTimeOld => {
            let digits = little_endian(value);
            let (date, time) = (digits / 1_000_000, digits % 1_000_000);
            if date > 99_999_999 {
                return Err(malformed());
            }
            write_calendar(
                out,
                &Calendar {
                    year: date / 10_000,
                    month: date / 100 % 100,
                    day: date % 100,
                    hour: time / 10_000,
                    minute: time / 100 % 100,
                    second: time % 100,
                },
            );
        }
        ColumnKind::TimestampOld => write_timestamp(out, little_endian(value), 0),
        _ => return Err(malformed()),
    }
    Ok(())
}

fn malformed() -> BinlogError {
    BinlogError::Malformed("temporal value")
}

/// Splits a big-endian value with an inverted sign bit into its first `len` bytes and the fraction
/// behind them.
fn split(value: &[u8], len: usize) -> Result<(i64, u64)> {
    let (whole, fraction) = value.split_at_checked(len).ok_or_else(malformed)?;
    let whole = big_endian(whole) as i64 - (1 << (8 * len - 1));
    Ok((whole, big_endian(fraction)))
}

/// Takes the 40 bits of a DATETIME apart: year and month as one number to the base 13, day, hour,
/// minute, second.
pub(super) fn unpack_datetime(packed: u64) -> Calendar {
    let months = packed >> 22;
    Calendar {
        year: months / 13,
        month: months % 13,
        day: packed >> 17 & 31,
        hour: packed >> 12 & 31,
        minute: packed >> 6 & 63,
        second: packed & 63,
    }
}

pub(super) fn write_date(out: &mut Vec<u8>, year: u64, month: u64, day: u64) {
    write_2(out, year / 100);
    write_2(out, year);
    out.push(b'-');
    write_2(out, month);
    out.push(b'-');
    write_2(out, day);
}

pub(super) fn write_time(out: &mut Vec<u8>, negative: bool, hour: u64, minute: u64, second: u64) {
    if negative {
        out.push(b'-');
    }
    if hour < 100 {
        write_2(out, hour);
    } else {
        write_u64(out, hour);
    }
    out.push(b':');
    write_2(out, minute);
    out.push(b':');
    write_2(out, second);
}

pub(super) fn write_calendar(out: &mut Vec<u8>, at: &Calendar) {
    write_date(out, at.year, at.month, at.day);
    out.push(b' ');
    write_time(out, false, at.hour, at.minute, at.second);
}

/// Seconds since 1970, of which zero without fraction is the zero date.
fn write_timestamp(out: &mut Vec<u8>, seconds: u64, fraction: u64) {
    if seconds == 0 && fraction == 0 {
        return write_calendar(out, &Calendar::default());
    }
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    write_calendar(
        out,
        &Calendar {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        },
    );
}

/// The date that is `days` days behind 1970-01-01: counted in years that start in March, in which
/// the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 is 719468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Appends the first `fsp` digits of a fraction that is kept in whole bytes of two digits each.
fn write_fraction(out: &mut Vec<u8>, fraction: u64, fsp: u8) {
    if fsp == 0 {
        return;
    }
    out.push(b'.');
    let odd = fsp % 2 == 1;
    write_padded(out, fraction, usize::from(fsp + u8::from(odd)));
    if odd {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_of_timestamps() {
        let cases = [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (24_855, (2038, 1, 19)),
            (49_710, (2106, 2, 7)),
        ];
        for (days, date) in cases {
            assert_eq!(civil(days), date);
        }
    }
}
