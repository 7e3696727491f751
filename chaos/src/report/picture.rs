//! `timeline.svg`: faults as bars over time, and below them the rate delivered, the records on their way, and memory.

use crate::course::{Course, Sample};
use crate::schedule::word;
use std::fmt::Write;

const WIDTH: f64 = 1_400.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 20.0;
/// Of one row of faults.
const ROW: f64 = 16.0;
/// Of one of the three curves.
const PANEL: f64 = 150.0;
const GAP: f64 = 34.0;

/// Points of a curve; more cannot be seen at this width.
const POINTS_MAX: usize = 1_400;

const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#9333ea"];

/// The whole picture. An empty course makes an empty one.
pub(super) fn draw(course: &Course) -> Result<String, std::fmt::Error> {
    let end = course
        .samples
        .last()
        .map_or(1.0, |sample| sample.at.as_secs_f64().max(1.0));
    let mut places: Vec<_> = course
        .incidents
        .iter()
        .map(|incident| incident.fault.place)
        .collect();
    places.sort();
    places.dedup();
    let faults = places.len() as f64 * ROW;
    let height = faults + 3.0 * (PANEL + GAP) + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * seconds / end;
    for (row, place) in places.iter().enumerate() {
        let top = 10.0 + row as f64 * ROW;
        writeln!(
            svg,
            "<text x=\"8\" y=\"{:.1}\">{}</text>",
            top + 11.0,
            word(place)
        )?;
        for incident in course
            .incidents
            .iter()
            .filter(|incident| incident.fault.place == *place)
        {
            let (from, until) = (x(incident.from.as_secs_f64()), x(incident.until.as_secs_f64()));
            let kind = word(&incident.fault.kind);
            let colour = match kind.as_str() {
                kind if kind.starts_with("kill") || kind == "burn" => "#dc2626",
                kind if kind.starts_with("broker") => "#7c3aed",
                kind if kind.starts_with("cut") || kind == "flap" || kind == "unplug" => "#f59e0b",
                _ => "#64748b",
            };
            writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{} at {:.2} s for {:.2} s</title></rect>",
                (until - from).max(1.5),
                ROW - 3.0,
                incident.fault.to_string().trim_end(),
                incident.from.as_secs_f64(),
                (incident.until - incident.from).as_secs_f64(),
            )?;
        }
    }
    let mut top = faults + 40.0;
    let samples = &course.samples;
    let memory = |gateway: usize| {
        move |sample: &Sample| *sample.memory.get(gateway).unwrap_or(&0) as f64 / f64::from(1 << 20)
    };
    let rate = |of: fn(&Sample) -> u64| rates(samples, of);
    let way: Vec<(f64, f64)> = curve(samples, |sample| {
        sample.sent.saturating_sub(sample.arrived) as f64
    });
    let panels: [(&str, Vec<Line>); 3] = [
        (
            "records a second: written (orange), delivered (blue)",
            vec![
                (COLOURS[1], rate(|sample| sample.sent)),
                (COLOURS[0], rate(|sample| sample.arrived)),
            ],
        ),
        ("records on their way", vec![(COLOURS[0], way)]),
        (
            "memory, MiB: gw1 blue, gw2 orange, gw3 green",
            (0..3)
                .map(|gateway| (COLOURS[gateway], curve(samples, memory(gateway))))
                .collect(),
        ),
    ];
    for (title, lines) in panels {
        panel(&mut svg, top, title, &lines, &x)?;
        top += PANEL + GAP;
    }
    for tenth in 0..=10 {
        let seconds = end * f64::from(tenth) / 10.0;
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds:.0} s</text>",
            x(seconds),
            height - 8.0
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A colour, and points of seconds and values.
type Line = (&'static str, Vec<(f64, f64)>);

fn panel(
    svg: &mut String,
    top: f64,
    title: &str,
    lines: &[Line],
    x: &dyn Fn(f64) -> f64,
) -> std::fmt::Result {
    let values = lines.iter().flat_map(|(_, points)| points);
    let most = values.map(|point| point.1).fold(1.0, f64::max);
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\">{title}</text>", top - 5.0)?;
    for share in [0.0, 0.5, 1.0] {
        let (line, value) = (y(most * share), most * share);
        writeln!(
            svg,
            "<path d=\"M{LEFT} {line:.1}H{:.1}\" stroke=\"#e2e8f0\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            line + 4.0
        )?;
    }
    for (colour, points) in lines {
        let mut path = String::new();
        for (number, &(seconds, value)) in points.iter().enumerate() {
            let verb = if number == 0 { 'M' } else { 'L' };
            write!(path, "{verb}{:.1} {:.1}", x(seconds), y(value))?;
        }
        writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>")?;
    }
    Ok(())
}

/// The highest value of each stretch of samples.
fn curve(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let stretches = samples.chunks((samples.len() / POINTS_MAX).max(1));
    stretches
        .map(|stretch| {
            let at = stretch.first().map_or(0.0, |sample| sample.at.as_secs_f64());
            (at, stretch.iter().map(&of).fold(0.0, f64::max))
        })
        .collect()
}

/// Over each stretch of samples, at least a second long.
fn rates(samples: &[Sample], of: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let step = (samples.len() / POINTS_MAX).max(2);
    let chosen: Vec<&Sample> = samples.iter().step_by(step).collect();
    chosen
        .windows(2)
        .map(|pair| {
            let seconds = (pair[1].at - pair[0].at).as_secs_f64().max(0.001);
            (
                pair[1].at.as_secs_f64(),
                of(pair[1]).saturating_sub(of(pair[0])) as f64 / seconds,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::Incident;
    use crate::schedule::{Kind, Place, Planned};
    use std::time::Duration;

    #[test]
    fn a_picture_shows_each_fault_and_three_curves() {
        let mut course = Course::default();
        assert!(draw(&course).unwrap().ends_with("</svg>\n"));
        for second in 0..60 {
            course.samples.push(Sample {
                at: Duration::from_secs(second),
                sent: second * 100,
                arrived: second * 90,
                memory: vec![64 << 20; 3],
            });
        }
        for (kind, place) in [(Kind::Cut, Place::West), (Kind::Kill, Place::Gw2)] {
            course.incidents.push(Incident {
                from: Duration::from_secs(5),
                until: Duration::from_secs(8),
                fault: Planned {
                    at: Duration::ZERO,
                    lasts: Duration::from_secs(3),
                    kind,
                    place,
                    amount: 0,
                },
            });
        }
        let svg = draw(&course).unwrap();
        assert_eq!(svg.matches("<title>").count(), 2);
        assert_eq!(svg.matches("stroke=\"#2563eb\"").count(), 3);
        assert!(svg.contains("cut") && svg.contains("west"), "{svg}");
    }
}
