use super::*;

/// Runs a shell script in namespaces and returns what it printed and how it ended.
fn run(namespaces: Namespaces, script: &str, give: Option<OwnedFd>) -> Result<(String, Exit), SpawnError> {
    let (mut output, writer) = io::pipe()?;
    let mut spawn = Spawn::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .namespaces(namespaces)
        .stdio(1, writer.into());
    if let Some(file) = give {
        spawn = spawn.give(file);
    }
    let mut child = spawn.env("PATH", "/usr/bin:/bin").start()?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    Ok((text, child.wait()?))
}

#[test]
fn output_and_exit_code_come_back() {
    let (text, exit) = run(Namespaces::default(), "echo hello; exit 3", None).unwrap();
    assert_eq!((text.as_str(), exit), ("hello\n", Exit::Code(3)));
}

#[test]
fn a_signal_is_told_from_a_code() {
    let (_, exit) = run(Namespaces::default(), "kill -9 $$", None).unwrap();
    assert_eq!((exit, exit.shell_code()), (Exit::Signal(9), 137));
}

#[test]
fn a_given_file_is_number_three() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"given").unwrap();
    drop(writer);
    let (text, _) = run(Namespaces::default(), "cat <&3", Some(reader.into())).unwrap();
    assert_eq!(text, "given");
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let error = Spawn::new("/nonexistent/program").start().unwrap_err();
    assert!(
        matches!(&error, SpawnError::Exec { program, source }
        if program == "/nonexistent/program" && source.kind() == io::ErrorKind::NotFound),
        "{error}"
    );
}

#[test]
fn in_its_own_namespaces_it_is_process_one_and_user_zero() {
    // A user namespace works for root as well, so this tests the way without root everywhere.
    let namespaces = Namespaces {
        user: true,
        ..Namespaces::ALL_BUT_USER
    };
    match run(namespaces, "echo $$ $(id -u)", None) {
        Ok((text, _)) => assert_eq!(text, "1 0\n"),
        Err(SpawnError::Namespaces(error)) => corten_rt::skip!("no user namespaces: {error}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn it_dies_with_the_thread_that_started_it() {
    let (mut output, writer) = io::pipe().unwrap();
    let mut child = std::thread::spawn(move || {
        let sleeper = Spawn::new("/bin/sh")
            .arg("-c")
            .arg("exec sleep 600")
            .stdio(1, writer.into());
        sleeper.env("PATH", "/usr/bin:/bin").dies_with_thread().start().unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert_eq!(output.read(&mut [0; 1]).unwrap(), 0, "nobody holds its output any more");
}

#[test]
fn a_process_that_ended_does_not_run_even_before_it_is_waited_for() {
    let sleeper = Spawn::new("/bin/sh")
        .arg("-c")
        .arg("exec sleep 600")
        .env("PATH", "/usr/bin:/bin");
    let mut child = sleeper.start().unwrap();
    assert!(is_running(child.pid()).unwrap());
    child.signal(Signal::KILL).unwrap();
    while is_running(child.pid()).unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert!(!is_running(child.pid()).unwrap());
}
