//! The program as its users meet it: started as a process, asked over the network, stopped by signals.

mod command_line;
mod dynblocks;
mod enforcement;
mod harness;
mod serve;
