//! Kernel aggregates to labeled series.
