//! A run as a picture: a lane per device over time.
//!
//! Each device has a colour. A lane shows the colour of whom its plugin followed, in full where it
//! led itself; it is grey where the device ran without a leader, and empty where it was down. Below
//! the lanes stands what was broken, a row per kind. With several plugins each has its own lanes.
//!
//! The picture is a function of the run: it holds no time of day and no path.

use std::path::Path;

use consort_proto::{PluginId, Time};
use consort_sim::{Fault, FaultKind, Lane, LaneRole, LaneState, Outcome, Plan, Stretch};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 1280;
const MARGIN: i32 = 14;
const NAME_WIDTH: i32 = 120;
const TITLE_HEIGHT: i32 = 46;
const AXIS_HEIGHT: i32 = 34;
const LEGEND_HEIGHT: i32 = 26;
/// The height of a lane where there are few, and where there are many.
const LANE_HEIGHT: (i32, i32) = (18, 3);
/// Lanes lower than this have no room for a name.
const NAMED_HEIGHT: i32 = 10;
/// No picture is higher, whatever the number of devices.
const LANES_HEIGHT_MAX: i32 = 2400;
/// More stretches and marks than this would make a file that nothing shows.
const SHAPES_MAX: usize = 50_000;
/// Words of a mark are cut to this.
const LABEL_MAX: usize = 28;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);
const ALONE: RGBColor = RGBColor(200, 204, 210);
const PAUSED: RGBColor = RGBColor(90, 96, 106);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = std::result::Result<T, String>;

/// Draws the run into an SVG file.
///
/// # Errors
/// The file cannot be written; says why. A file begun is left incomplete.
pub(super) fn draw(path: &Path, plan: &Plan, outcome: &Outcome) -> Result<()> {
    let picture = Picture::new(outcome);
    let mut svg = String::new();
    picture.draw(&mut svg, plan, outcome)?;
    std::fs::write(path, svg).map_err(|error| error.to_string())
}

/// Where everything stands.
struct Picture {
    end: Time,
    plugins: Vec<PluginId>,
    lanes: i32,
    lane_height: i32,
    kinds: Vec<FaultKind>,
}

impl Picture {
    fn new(outcome: &Outcome) -> Self {
        let timeline = &outcome.timeline;
        let ids = timeline.lanes.iter().flat_map(|lane| lane.roles.keys());
        let mut plugins: Vec<PluginId> = ids.cloned().collect();
        plugins.sort();
        plugins.dedup();
        let mut kinds: Vec<FaultKind> = timeline.faults.iter().map(|fault| fault.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let lanes = i32::try_from(timeline.lanes.len()).unwrap_or(i32::MAX);
        let all = lanes.saturating_mul(plugins.len().max(1) as i32).max(1);
        let lane_height = (LANES_HEIGHT_MAX / all).clamp(LANE_HEIGHT.1, LANE_HEIGHT.0);
        Self {
            end: timeline.end,
            plugins,
            lanes,
            lane_height,
            kinds,
        }
    }

    fn draw(&self, svg: &mut String, plan: &Plan, outcome: &Outcome) -> Result<()> {
        let root = SVGBackend::with_string(svg, (WIDTH, self.height())).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        self.title(&root, plan, outcome)?;
        let mut shapes = SHAPES_MAX;
        let mut top = TITLE_HEIGHT;
        for plugin in &self.plugins {
            for (index, lane) in outcome.timeline.lanes.iter().enumerate() {
                self.lane(&root, (top, index), lane, plugin, &mut shapes)?;
                top += self.lane_height;
            }
            top += self.lane_height;
        }
        for kind in &self.kinds {
            let faults = outcome.timeline.faults.iter();
            self.faults(
                &root,
                top,
                *kind,
                faults.filter(|f| f.kind == *kind),
                &mut shapes,
            )?;
            top += LANE_HEIGHT.0;
        }
        self.axis(&root, top)?;
        self.legend(&root, top + AXIS_HEIGHT)?;
        root.present().map_err(text)
    }

    fn height(&self) -> u32 {
        let blocks = self.plugins.len() as i32;
        let lanes = blocks * (self.lanes + 1) * self.lane_height;
        let faults = self.kinds.len() as i32 * LANE_HEIGHT.0;
        (TITLE_HEIGHT + lanes + faults + AXIS_HEIGHT + LEGEND_HEIGHT).unsigned_abs()
    }

    fn title(&self, root: &Area<'_>, plan: &Plan, outcome: &Outcome) -> Result<()> {
        let summary = &outcome.summary;
        let name = match plan.name.as_str() {
            "" => String::new(),
            name => format!("{name}: "),
        };
        let title = format!("{name}{} devices, seed {}", summary.nodes, summary.seed);
        let style = (FONT, 17).into_font().color(&INK);
        root.draw_text(&title, &style, (MARGIN, 8)).map_err(text)?;
        let figures = format!(
            "{} leader changes, {:.3} s without a leader, {} of {} messages delivered, {} bytes per device and second, {} violations",
            summary.leader_changes,
            summary.leaderless.as_secs_f64(),
            summary.delivered,
            summary.sent,
            summary.bytes_per_node_per_s,
            summary.violations
        );
        let style = (FONT, 12).into_font().color(&INK);
        root.draw_text(&figures, &style, (MARGIN, 28)).map_err(text)
    }

    fn lane(
        &self,
        root: &Area<'_>,
        (top, index): (i32, usize),
        lane: &Lane,
        plugin: &PluginId,
        shapes: &mut usize,
    ) -> Result<()> {
        if self.lane_height >= NAMED_HEIGHT {
            let label = match self.plugins.len() {
                1 => lane.name.clone(),
                _ => format!("{} {plugin}", lane.name),
            };
            self.name(root, top, self.lane_height, &label)?;
        }
        let (above, below) = (top + 1, top + self.lane_height - 1);
        for state in &lane.states {
            let colour = match state.what {
                LaneState::Up => ALONE,
                LaneState::Paused | LaneState::Suspended => PAUSED,
            };
            self.bar(root, state, (above, below), colour.filled(), shapes)?;
        }
        for role in lane.roles.get(plugin).into_iter().flatten() {
            let style = match role.what {
                LaneRole::Leader { .. } => colour_of(index).filled(),
                LaneRole::Follower { leader, .. } => tint(colour_of(leader)).filled(),
            };
            self.bar(root, role, (above, below), style, shapes)?;
        }
        let stopped = lane.states.iter().filter(|s| s.what != LaneState::Up);
        for state in stopped {
            self.bar(
                root,
                state,
                (above, below),
                PAUSED.mix(0.55).filled(),
                shapes,
            )?;
        }
        Ok(())
    }

    fn faults<'f>(
        &self,
        root: &Area<'_>,
        top: i32,
        kind: FaultKind,
        faults: impl Iterator<Item = &'f Fault>,
        shapes: &mut usize,
    ) -> Result<()> {
        self.name(root, top, LANE_HEIGHT.0, name_of(kind))?;
        let (above, below) = (top + 2, top + LANE_HEIGHT.0 - 2);
        let mut free_from = i32::MIN;
        for fault in faults {
            let to = fault.to.unwrap_or(fault.from);
            let (from, to) = (fault.from.min(self.end), to.min(self.end));
            let stretch = Stretch { from, to, what: () };
            self.bar(
                root,
                &stretch,
                (above, below),
                colour_for(kind).filled(),
                shapes,
            )?;
            let x = self.x(from) + 4;
            if x > free_from && *shapes > 0 {
                let label: String = fault.label.chars().take(LABEL_MAX).collect();
                let style = (FONT, 10).into_font().color(&INK);
                root.draw_text(&label, &style, (x, top + 4)).map_err(text)?;
                free_from = x + 6 * label.chars().count() as i32;
            }
        }
        Ok(())
    }

    /// A bar of at least a pixel, so that nothing is too short to be seen.
    fn bar<T>(
        &self,
        root: &Area<'_>,
        stretch: &Stretch<T>,
        (above, below): (i32, i32),
        style: ShapeStyle,
        shapes: &mut usize,
    ) -> Result<()> {
        let Some(left) = shapes.checked_sub(1) else {
            return Ok(());
        };
        *shapes = left;
        let (from, to) = (self.x(stretch.from), self.x(stretch.to));
        let corners = [(from, above), (to.max(from + 1), below.max(above + 1))];
        root.draw(&Rectangle::new(corners, style)).map_err(text)
    }

    fn name(&self, root: &Area<'_>, top: i32, height: i32, name: &str) -> Result<()> {
        let right = Pos::new(HPos::Right, VPos::Center);
        let style = (FONT, 11).into_font().color(&INK).pos(right);
        let cut: String = name.chars().take(18).collect();
        root.draw_text(&cut, &style, (MARGIN + NAME_WIDTH - 8, top + height / 2))
            .map_err(text)
    }

    fn axis(&self, root: &Area<'_>, top: i32) -> Result<()> {
        let area = root.clone().shrink(
            (MARGIN + NAME_WIDTH, top),
            (self.plot_width().unsigned_abs(), AXIS_HEIGHT.unsigned_abs()),
        );
        let end = self.end.as_micros() as f64 / 1e6;
        let mut chart = ChartBuilder::on(&area)
            .set_label_area_size(LabelAreaPosition::Bottom, AXIS_HEIGHT - 4)
            .build_cartesian_2d(0.0..end.max(1e-3), 0.0..1.0)
            .map_err(text)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_axis()
            .disable_mesh()
            .x_labels(12)
            .x_label_formatter(&|seconds| format!("{seconds} s"))
            .axis_style(FAINT)
            .label_style((FONT, 11).into_font().color(&INK))
            .draw()
            .map_err(text)
    }

    fn legend(&self, root: &Area<'_>, top: i32) -> Result<()> {
        let entries: [(&str, ShapeStyle); 4] = [
            ("leads (a colour per device)", colour_of(0).filled()),
            ("follows that device", tint(colour_of(0)).filled()),
            ("runs without a leader", ALONE.filled()),
            ("stopped or asleep", PAUSED.filled()),
        ];
        let mut x = MARGIN + NAME_WIDTH;
        for (label, style) in entries {
            let corners = [(x, top + 4), (x + 14, top + 16)];
            root.draw(&Rectangle::new(corners, style)).map_err(text)?;
            let style = (FONT, 11).into_font().color(&INK);
            root.draw_text(label, &style, (x + 20, top + 4))
                .map_err(text)?;
            x += 34 + 7 * label.len() as i32;
        }
        Ok(())
    }

    fn plot_width(&self) -> i32 {
        WIDTH as i32 - NAME_WIDTH - 2 * MARGIN
    }

    fn x(&self, at: Time) -> i32 {
        let share = at.as_micros() as f64 / self.end.as_micros().max(1) as f64;
        MARGIN + NAME_WIDTH + (share * f64::from(self.plot_width())).round() as i32
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Neighbours differ clearly: hues a golden angle apart.
fn colour_of(node: usize) -> RGBColor {
    let hue = (node as f64 * 0.618_034 + 0.58).fract();
    let (red, green, blue) = HSLColor(hue, 0.62, 0.45).rgb();
    RGBColor(red, green, blue)
}

fn tint(colour: RGBColor) -> RGBColor {
    let lighten = |part: u8| 255 - (255 - part) / 3;
    RGBColor(lighten(colour.0), lighten(colour.1), lighten(colour.2))
}

fn name_of(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Partition => "partition",
        FaultKind::Cut => "links cut",
        FaultKind::Link => "links changed",
        FaultKind::Flap => "flapping",
        FaultKind::Process => "processes",
        FaultKind::Disk => "disks",
        FaultKind::Clock => "clocks",
        FaultKind::Hostile => "strangers",
        FaultKind::Plugin => "plugins",
        FaultKind::Network => "network",
    }
}

fn colour_for(kind: FaultKind) -> RGBColor {
    match kind {
        FaultKind::Partition | FaultKind::Cut => RGBColor(240, 170, 160),
        FaultKind::Link | FaultKind::Flap | FaultKind::Network => RGBColor(245, 205, 150),
        FaultKind::Process | FaultKind::Plugin => RGBColor(190, 180, 225),
        FaultKind::Disk | FaultKind::Clock => RGBColor(170, 205, 235),
        FaultKind::Hostile => RGBColor(235, 150, 190),
    }
}
