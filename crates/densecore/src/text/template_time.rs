//! Dates for templates that tell the model what day it is.

use minijinja::Error;

use super::meter::refused;

/// Formats seconds since 1970 in UTC with the directives that templates use for dates.
pub fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let days = seconds / 86_400;
    let (mut year, mut rest) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = rest + 1;
    let mut month = 0;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let plain = directive == Some('-');
        if plain {
            directive = chars.next();
        }
        let number = |value: u64, width: usize| {
            if plain { value.to_string() } else { format!("{value:0width$}") }
        };
        let written = match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month as u64 + 1, 2),
            Some('d') => number(rest + 1, 2),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('B') => MONTHS[month].to_string(),
            Some('b') => MONTHS[month][..3].to_string(),
            Some('A') => DAYS[(days % 7) as usize].to_string(),
            Some('a') => DAYS[(days % 7) as usize][..3].to_string(),
            Some('F') => format!("{year}-{:02}-{:02}", month + 1, rest + 1),
            Some('%') => "%".to_string(),
            other => {
                return Err(refused(format!("strftime_now does not know %{}", other.unwrap_or(' '))));
            }
        };
        out.push_str(&written);
    }
    Ok(out)
}
