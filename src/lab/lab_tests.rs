use super::*;

#[tokio::test]
async fn a_short_run_measures_each_row_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let options = |what| Options {
        only: vec![what],
        seconds: 1,
        directory: folder.path().to_owned(),
        nats_url: None,
        json: true,
    };
    for (what, rows) in [(What::Writes, 4), (What::Arrival, 4)] {
        let text = measure(&options(what)).await.unwrap();
        let measured: serde_json::Value = serde_json::from_str(&text).unwrap();
        let measured = measured.as_array().unwrap();
        assert_eq!(measured.len(), rows, "{text}");
        assert!(measured.iter().all(|row| row["p50_ns"].as_f64().is_some_and(|nanos| nanos > 0.0)), "{text}");
        assert_eq!(measured.iter().filter(|row| row["floor"] == true).count(), 1, "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
