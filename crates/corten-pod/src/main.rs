//! The process 1 of a pod; see the library. Takes its control socket as open file 3; its argument, the pod's uid, is for those who look for it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let served = corten_linux::fds::given(1).and_then(|mut files| {
        let control = files.pop().ok_or_else(|| std::io::Error::other("no control socket"))?;
        corten_linux::single::keep_files_to_oneself()?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        corten_pod::pod::serve(control)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten-pod: {error} (this program is started by `corten up`, not by hand)");
            ExitCode::FAILURE
        }
    }
}
