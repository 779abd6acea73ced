use super::*;

#[tokio::test]
async fn a_file_that_gives_nothing_is_given_up_and_holds_one_thread() {
    use std::fs;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ksi.toml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    let opened: Arc<sync::Mutex<()>> = Arc::default();
    for _ in 0..2 {
        let given_up = read(file.clone(), opened.clone(), Duration::from_millis(20)).await;
        let told = with_causes(&given_up.unwrap_err()).to_string();
        assert!(told.contains("ksi.toml") && told.contains("nothing within 20ms"), "{told}");
    }
    assert_eq!(Arc::strong_count(&opened), 2, "one thread has it");
    // Somebody writes to it at last.
    drop(fs::File::options().read(true).write(true).open(&file).unwrap());
    let ended = opened.lock().await;
    fs::remove_file(&file).unwrap();
    fs::write(&file, "").unwrap();
    drop(ended);
    assert!(read(file, opened, READ).await.is_ok());
}

#[tokio::test]
async fn a_panic_of_the_host_is_not_told_as_its_stop() {
    let panicked = async || tokio::spawn(async { panic!("as a defect would") }).await;
    let (config, plugin): (ReloadConfigError, DeployError) =
        (panicked().await.unwrap_err().into(), panicked().await.unwrap_err().into());
    for told in [with_causes(&config).to_string(), with_causes(&plugin).to_string()] {
        assert!(told.contains("as a defect would") && !told.contains("stopping"), "{told}");
    }
    let task = tokio::spawn(std::future::pending::<()>());
    task.abort();
    let stopped: ReloadConfigError = task.await.unwrap_err().into();
    assert!(matches!(stopped, ReloadConfigError::Stopping));
}
