//! Real servers answer what the simulated ones answer, case by case.

mod etcd;
mod target;
