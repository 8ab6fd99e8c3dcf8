mod model;
mod rules;
mod scenario;
mod show;
mod world;
