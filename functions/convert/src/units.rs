//! The units, and how one becomes another of the same quantity.

use serde::Serialize;

#[derive(Serialize)]
pub struct Unit {
    pub symbol: &'static str,
    pub name: &'static str,
    pub quantity: &'static str,
    /// A value in the quantity's base unit is `(value + offset) * factor`.
    #[serde(skip)]
    factor: f64,
    #[serde(skip)]
    offset: f64,
}

impl Unit {
    const fn new(quantity: &'static str, symbol: &'static str, name: &'static str, factor: f64, offset: f64) -> Self {
        Self { symbol, name, quantity, factor, offset }
    }

    pub fn convert(&self, value: f64, to: &Self) -> f64 {
        (value + self.offset) * (self.factor / to.factor) - to.offset
    }
}

pub fn find(symbol: &str) -> Option<&'static Unit> {
    ALL.iter().find(|unit| unit.symbol == symbol)
}

pub const ALL: &[Unit] = &[
    Unit::new("length", "mm", "millimetre", 0.001, 0.0),
    Unit::new("length", "m", "metre", 1.0, 0.0),
    Unit::new("length", "km", "kilometre", 1000.0, 0.0),
    Unit::new("length", "in", "inch", 0.0254, 0.0),
    Unit::new("length", "ft", "foot", 0.3048, 0.0),
    Unit::new("length", "mi", "mile", 1609.344, 0.0),
    Unit::new("mass", "g", "gram", 0.001, 0.0),
    Unit::new("mass", "kg", "kilogram", 1.0, 0.0),
    Unit::new("mass", "oz", "ounce", 0.028_349_523_125, 0.0),
    Unit::new("mass", "lb", "pound", 0.453_592_37, 0.0),
    Unit::new("temperature", "K", "kelvin", 1.0, 0.0),
    Unit::new("temperature", "°C", "degree Celsius", 1.0, 273.15),
    Unit::new("temperature", "°F", "degree Fahrenheit", 5.0 / 9.0, 459.67),
];
