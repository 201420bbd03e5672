//! The units, and how one becomes another of the same quantity.

use serde::Serialize;

#[derive(Serialize)]
pub struct Unit {
    pub symbol: &'static str,
    pub name: &'static str,
    pub quantity: &'static str,
    /// How many of these make one base unit (metre, kilogram, degree Celsius).
    #[serde(skip)]
    per_base: f64,
    /// What this unit reads where the base unit reads 0.
    #[serde(skip)]
    zero: f64,
}

impl Unit {
    const fn new(quantity: &'static str, symbol: &'static str, name: &'static str, per_base: f64, zero: f64) -> Self {
        Self { symbol, name, quantity, per_base, zero }
    }

    pub fn convert(&self, value: f64, to: &Self) -> f64 {
        (value - self.zero) * to.per_base / self.per_base + to.zero
    }
}

pub fn find(symbol: &str) -> Option<&'static Unit> {
    ALL.iter().find(|unit| unit.symbol == symbol)
}

pub const ALL: &[Unit] = &[
    Unit::new("length", "mm", "millimetre", 1000.0, 0.0),
    Unit::new("length", "m", "metre", 1.0, 0.0),
    Unit::new("length", "km", "kilometre", 1.0 / 1000.0, 0.0),
    Unit::new("length", "in", "inch", 1.0 / 0.0254, 0.0),
    Unit::new("length", "ft", "foot", 1.0 / 0.3048, 0.0),
    Unit::new("length", "mi", "mile", 1.0 / 1609.344, 0.0),
    Unit::new("mass", "g", "gram", 1000.0, 0.0),
    Unit::new("mass", "kg", "kilogram", 1.0, 0.0),
    Unit::new("mass", "oz", "ounce", 1.0 / 0.028_349_523_125, 0.0),
    Unit::new("mass", "lb", "pound", 1.0 / 0.453_592_37, 0.0),
    Unit::new("temperature", "K", "kelvin", 1.0, 273.15),
    Unit::new("temperature", "°C", "degree Celsius", 1.0, 0.0),
    Unit::new("temperature", "°F", "degree Fahrenheit", 1.8, 32.0),
];
