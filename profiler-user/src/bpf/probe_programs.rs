//! Loads the programs of probes. The kernel wants to know at loading that a program is for many probes at once, or for both ends of a call; aya 0.14 cannot say
//! that. So they are taken from the same object by aya's own parser, refer to the maps that aya has made, and are loaded by a call of ours.

use super::error::BpfError;
use aya_obj::{Function, Object};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

// include/uapi/linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const BTF_LOAD: libc::c_int = 18;
const TYPE_KPROBE: u32 = 2;
const TYPE_RAW_TRACEPOINT: u32 = 17;

/// For what a program is loaded: `enum bpf_attach_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum AttachType {
    /// One of the kernel's tracepoints.
    RawTracepoint = 0,
    /// Many probes by one link (6.6).
    Multi = 48,
    /// The same, at both ends of a call (6.13).
    Session = 57,
}

/// `union bpf_attr`, the part for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `union bpf_attr`, the part for `BPF_BTF_LOAD`.
#[repr(C)]
struct BtfAttr {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    reserved: u32,
}

/// The object once more, with its references to maps filled in.
pub(super) struct ProbeObject {
    object: Object,
    btf: OwnedFd,
}

impl ProbeObject {
    /// Parses an object and lets it refer to the maps of these names and descriptors.
    pub(super) fn parse(bytes: &[u8], maps: &[(String, RawFd)]) -> Result<Self, BpfError> {
        let mut object = Object::parse(bytes).map_err(load_error)?;
        let features = aya::features().btf().ok_or_else(|| BpfError::Load("this kernel takes no type information of programs".into()))?;
        let types = object.fixup_and_sanitize_btf(features).map_err(load_error)?;
        let types = types.ok_or_else(|| BpfError::Load("the embedded object has no type information".into()))?;
        let btf = load_btf(&types.to_bytes())?;
        let definitions: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        let text: std::collections::HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let descriptor = |name: &str| maps.iter().find(|(known, _)| known == name).map(|(_, descriptor)| *descriptor);
        let referred = definitions.iter().filter_map(|(name, map)| Some((name.as_str(), descriptor(name)?, map)));
        object.relocate_maps(referred, &text).map_err(load_error)?;
        object.relocate_calls(&text).map_err(load_error)?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, btf })
    }

    /// Loads a program.
    pub(super) fn load(&self, name: &str, attach: AttachType) -> Result<OwnedFd, BpfError> {
        let program = self.object.programs.get(name).ok_or_else(|| BpfError::Load(format!("the embedded object has no program {name}")))?;
        let function = &self.object.functions[&program.function_key()];
        let mut log = vec![0u8; 1 << 20];
        match self.load_function(name, &program.license, function, (attach, &mut [])) {
            Ok(loaded) => Ok(loaded),
            // Once more, to hear why.
            Err(error) => match self.load_function(name, &program.license, function, (attach, &mut log)) {
                Ok(loaded) => Ok(loaded),
                Err(_) => Err(BpfError::Load(format!("{name}: {error}: {}", end_of(&log)))),
            },
        }
    }

    fn load_function(
        &self,
        name: &str,
        license: &CString,
        function: &Function,
        (attach, log): (AttachType, &mut [u8]),
    ) -> io::Result<OwnedFd> {
        let mut prog_name = [0; 16];
        prog_name.iter_mut().zip(name.bytes().take(15)).for_each(|(slot, byte)| *slot = byte);
        let types = function.func_info.func_info_bytes();
        let attr = LoadAttr {
            prog_type: if attach == AttachType::RawTracepoint { TYPE_RAW_TRACEPOINT } else { TYPE_KPROBE },
            insn_cnt: function.instructions.len() as u32,
            insns: function.instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: log.len() as u32,
            log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            prog_name,
            expected_attach_type: attach as u32,
            prog_btf_fd: self.btf.as_raw_fd() as u32,
            func_info_rec_size: function.func_info_rec_size as u32,
            func_info: types.as_ptr() as u64,
            func_info_cnt: function.func_info.len() as u32,
            ..LoadAttr::default()
        };
        // SAFETY: the attributes, and all that they point to, outlive the call.
        descriptor(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) })
    }
}

fn load_btf(bytes: &[u8]) -> Result<OwnedFd, BpfError> {
    let attr = BtfAttr { btf: bytes.as_ptr() as u64, log_buf: 0, btf_size: bytes.len() as u32, log_size: 0, log_level: 0, reserved: 0 };
    // SAFETY: the attributes and the bytes outlive the call.
    let loaded = descriptor(unsafe { libc::syscall(libc::SYS_bpf, BTF_LOAD, &raw const attr, size_of::<BtfAttr>() - 4) });
    loaded.map_err(|error| BpfError::Load(format!("type information: {error}")))
}

/// What a call of `bpf(2)` gives: a descriptor of ours alone, or an error.
pub(super) fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// The end of a verifier's log says why.
fn end_of(log: &[u8]) -> String {
    let text =
        String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).split_whitespace().collect::<Vec<_>>().join(" ");
    text.char_indices().rev().nth(1_500).map_or(text.clone(), |(at, _)| format!("... {}", &text[at..]))
}

fn load_error(error: impl std::fmt::Display) -> BpfError {
    BpfError::Load(error.to_string())
}
