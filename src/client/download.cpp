#include <sys/stat.h>

#include <capstan/client/calls.h>
#include <capstan/client/download-file.h>
#include <capstan/client/download-tree.h>
#include <capstan/client/fetch.h>
#include <capstan/client/transfers.h>

namespace capstan::client {

namespace {

// Read into a consumer of the caller's.
class ReadJob final : private FetchTarget {
 public:
  ReadJob(Links& links, std::string path, ByteConsumer& sink, FetchRange range, Progress* progress)
      : links(links), path(std::move(path)), sink(sink), range(range), tally(progress) {}

  kj::Promise<Result<Entry>> run() {
    return fetch(links, path, range, *this, [this](uint64_t count) { tally.advanced(count); })
        .then([this](Result<Entry>&& result) {
          if (result.ok()) tally.done(path, wanted);
          return kj::mv(result);
        });
  }

 private:
  Links& links;
  std::string path;
  ByteConsumer& sink;
  FetchRange range;
  Tally tally;
  uint64_t wanted = 0;

  Result<uint64_t> begin(const Entry& entry) override {
    wanted = std::min(range.count, entry.size - std::min(entry.size, range.offset));
    tally.expect(wanted);
    tally.allKnown();
    tally.started(path, wanted);
    return range.offset;
  }
  kj::Promise<Status> write(std::string_view bytes) override { return sink.write(bytes); }
  kj::Promise<Status> skip(uint64_t zeros) override { return sink.skip(zeros); }
};

// From a path of the user's to a path of the user's, whatever is there.
class DownloadJob {
 public:
  DownloadJob(Links& links, std::string remotePath, std::string localPath, DownloadSettings settings,
              Progress* progress)
      : links(links),
        remotePath(std::move(remotePath)),
        localPath(std::move(localPath)),
        settings(std::move(settings)),
        tally(progress) {}

  kj::Promise<Result<TransferSummary>> run() {
    auto ended = settings.recursive ? runRecursive() : runFile();
    return ended.then([this](Status&& status) -> Result<TransferSummary> {
      if (!status.ok()) return std::move(status).error();
      return std::move(tally.summary);
    });
  }

 private:
  Links& links;
  std::string remotePath;
  std::string localPath;
  DownloadSettings settings;
  Tally tally;
  kj::Maybe<kj::Own<FileDownload>> file;
  kj::Maybe<kj::Own<TreeDownload>> tree;

  kj::Promise<Status> runFile() {
    return file.emplace(kj::heap<FileDownload>(links, remotePath, localPath, settings, tally))->run();
  }

  kj::Promise<Status> runRecursive() {
    return remoteStat(links, remotePath, false).then([this](Result<Entry>&& entry) -> kj::Promise<Status> {
      if (!entry.ok()) return Status(std::move(entry).error());
      entry->path = remotePath;
      switch (entry->type) {
        case EntryType::DIRECTORY: return runTree(std::move(*entry));
        case EntryType::SYMLINK: return runSymlink(*entry);
        default: return runFile();
      }
    });
  }

  kj::Promise<Status> runTree(Entry root) {
    Result<LocalPlace> place = openPlace(localPath, true);
    if (!place.ok()) return Status(std::move(place).error());
    return tree.emplace(kj::heap<TreeDownload>(links, std::move(root), std::move(*place), settings, tally))->run();
  }

  Status runSymlink(const Entry& entry) {
    Result<LocalPlace> place = openPlace(localPath, true);
    if (!place.ok()) return std::move(place).error();
    Status made = makeSymlink(*place, entry.target, settings.overwrite);
    if (made.ok() && settings.keepMetadata) made = setLinkTime(*place, entry.mtime);
    if (made.ok()) ++tally.summary.symlinks;
    return made;
  }
};

}  // namespace

kj::Promise<Result<Entry>> readTo(Links& links, std::string path, ByteConsumer& sink, uint64_t offset, uint64_t count,
                                  Progress* progress) {
  auto job = kj::heap<ReadJob>(links, std::move(path), sink, FetchRange{offset, count}, progress);
  auto promise = job->run();
  return promise.attach(kj::mv(job));
}

kj::Promise<Result<TransferSummary>> downloadPath(Links& links, std::string remotePath, std::string localPath,
                                                  DownloadSettings settings, Progress* progress) {
  auto job = kj::heap<DownloadJob>(links, std::move(remotePath), std::move(localPath), std::move(settings), progress);
  auto promise = job->run();
  return promise.attach(kj::mv(job));
}

}  // namespace capstan::client
