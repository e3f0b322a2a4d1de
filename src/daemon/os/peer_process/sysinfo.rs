//! macOS, Windows and the BSDs: the process table tells the program of a process. Which process has a socket is asked of
//! the system's own tool, because the system call needs unsafe code.

use std::net::SocketAddr;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::ProcessFacts;
use crate::daemon::os::process;
use crate::pool::Process;

pub(super) fn facts(pid: u32) -> Option<ProcessFacts> {
    let wanted = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing()
        .with_exe(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_cwd(UpdateKind::Always);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[wanted]), true, what);
    let found = system.process(wanted)?;
    Some(ProcessFacts {
        parent: found.parent().map_or(0, Pid::as_u32),
        executable: found.exe().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned())),
        arguments: found.cmd().iter().map(|part| part.to_string_lossy().into_owned()).collect(),
        directory: found.cwd().map(std::path::Path::to_owned),
    })
}

/// The process that has the other end of a connection.
pub(super) fn process_of_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<Process> {
    Some(process::find(pid_of_tcp_peer(own, peer)?).ok()??.process)
}

#[cfg(target_os = "macos")]
fn pid_of_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let port = format!("-iTCP:{}", peer.port());
    let output = std::process::Command::new("/usr/sbin/lsof").args(["-nP", "-Fpn", &port]).output().ok()?;
    super::tables::in_lsof(&String::from_utf8_lossy(&output.stdout), own, peer)
}

#[cfg(windows)]
fn pid_of_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    use std::os::windows::process::CommandExt;
    /// No console window.
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    let program = std::path::Path::new(&root).join(r"System32\netstat.exe");
    let protocol = if peer.is_ipv4() { "TCP" } else { "TCPv6" };
    let mut command = std::process::Command::new(program);
    let output = command.args(["-n", "-o", "-p", protocol]).creation_flags(CREATE_NO_WINDOW).output().ok()?;
    super::tables::in_netstat(&String::from_utf8_lossy(&output.stdout), own, peer)
}

#[cfg(not(any(target_os = "macos", windows)))]
fn pid_of_tcp_peer(_own: SocketAddr, _peer: SocketAddr) -> Option<u32> {
    None
}
