#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/file.h>
#include <capstan/client/calls.h>
#include <capstan/client/local-files.h>
#include <capstan/client/transfers.h>
#include <capstan/client/upload-file.h>
#include <capstan/client/upload-tree.h>

namespace capstan::client {

namespace {

constexpr size_t CHUNK = 256 << 10;

// Content from a source of the caller's. All of create, write and commit is pipelined: little content is one round
// trip.
class WriteJob {
 public:
  WriteJob(Links& links, ByteProducer& source, std::string path, UploadSettings settings, Progress* progress)
      : links(links), source(source), path(std::move(path)), settings(std::move(settings)), tally(progress) {}

  kj::Promise<Result<Entry>> run() {
    return links.run<Entry>(Repeat::NEVER, [this](Connection& connection) { return send(connection); })
        .then([this](Result<Entry>&& result) -> Result<Entry> {
          if (result.ok()) tally.done(path, position);
          if (!result.ok() && result.error().code == ErrorCode::UNREACHABLE && position > 0) {
            result.error().message += "; the source cannot be read a second time, so start it again";
          }
          return kj::mv(result);
        });
  }

 private:
  using Chunk = capnp::StreamingRequest<schema::ByteSink::WriteParams>;

  Links& links;
  ByteProducer& source;
  std::string path;
  UploadSettings settings;
  Tally tally;
  uint64_t position = 0;
  Hasher hasher{DigestAlgorithm::XXH3};
  kj::Maybe<schema::Upload::Client> upload;

  kj::Promise<Result<Entry>> send(Connection& connection) {
    tally.started(path, 0);
    auto request = connection.fileStore().createRequest();
    request.setPath(rpc::asData(path));
    auto options = request.initOptions();
    rpc::write(options.initExpectation(), settings.expectation);
    rpc::write(options.initAttributes(), settings.attributes);
    options.setMakeParents(settings.makeParents);
    upload = request.send().getUpload();
    return sendNext().then([this](Status&& sent) -> kj::Promise<Result<Entry>> {
      if (!sent.ok()) return Result<Entry>(std::move(sent).error());
      return commit();
    });
  }

  kj::Promise<Status> sendNext() {
    auto request = KJ_ASSERT_NONNULL(upload).writeRequest(capnp::MessageSize{CHUNK / sizeof(capnp::word) + 1024, 4});
    auto chunk = kj::heap<Chunk>(kj::mv(request));
    auto data = capnp::Orphanage::getForMessageContaining(schema::ByteSink::WriteParams::Builder(*chunk))
                    .newOrphan<capnp::Data>(CHUNK);
    char* buffer = reinterpret_cast<char*>(data.get().begin());
    return fill(buffer, 0).then(
        [this, chunk = kj::mv(chunk), data = kj::mv(data)](Result<size_t>&& got) mutable -> kj::Promise<Status> {
          if (!got.ok()) return Status(std::move(got).error());
          size_t size = *got;
          if (size == 0) return okStatus();
          data.truncate(size);
          hasher.update(rpc::asView(data.getReader()));
          chunk->adoptData(kj::mv(data));
          return sendChunk(chunk->send(), size);
        });
  }

  kj::Promise<Status> sendChunk(kj::Promise<void> sending, size_t size) {
    return sending.then(
        [this, size]() {
          position += size;
          tally.advanced(size);
          return sendNext();
        },
        [this](kj::Exception&& exception) -> kj::Promise<Status> {
          return whyStreamFailed(KJ_ASSERT_NONNULL(upload), kj::mv(exception)).then([](Error&& error) {
            return Status(kj::mv(error));
          });
        });
  }

  // Until the buffer is full or the source at its end.
  kj::Promise<Result<size_t>> fill(char* buffer, size_t have) {
    if (have == CHUNK) return Result<size_t>(have);
    return source.read(buffer + have, CHUNK - have)
        .then([this, buffer, have](Result<size_t>&& got) -> kj::Promise<Result<size_t>> {
          if (!got.ok()) return kj::mv(got);
          if (*got == 0) return Result<size_t>(have);
          return fill(buffer, have + *got);
        });
  }

  kj::Promise<Result<Entry>> commit() {
    tally.expect(position);
    tally.allKnown();
    auto request = KJ_ASSERT_NONNULL(upload).commitRequest();
    rpc::write(request.initCheck(), {position, DigestAlgorithm::XXH3, hasher.digest()});
    return request.send().then(
        [](capnp::Response<schema::Upload::CommitResults>&& response) { return entryIn(response); });
  }
};

// From a path of the user's to a remote one, whatever is there.
class UploadJob {
 public:
  UploadJob(Links& links, std::string localPath, std::string remotePath, UploadSettings settings, Progress* progress)
      : links(links),
        localPath(std::move(localPath)),
        remotePath(std::move(remotePath)),
        settings(std::move(settings)),
        tally(progress) {}

  kj::Promise<Result<TransferSummary>> run() {
    return start().then([this](Status&& status) -> Result<TransferSummary> {
      if (!status.ok()) return std::move(status).error();
      return std::move(tally.summary);
    });
  }

 private:
  Links& links;
  std::string localPath;
  std::string remotePath;
  UploadSettings settings;
  Tally tally;
  kj::Maybe<kj::Own<FileUpload>> file;
  kj::Maybe<kj::Own<TreeUpload>> tree;

  kj::Promise<Status> start() {
    struct stat stat;
    if (lstat(localPath.c_str(), &stat) != 0) return Status(errorFromErrno(errno, "cannot read", localPath));
    if (settings.recursive && S_ISDIR(stat.st_mode)) {
      Result<LocalPlace> place = openPlace(localPath, false);
      if (!place.ok()) return Status(std::move(place).error());
      tree = kj::heap<TreeUpload>(links, std::move(*place), remotePath, settings, tally);
      return KJ_ASSERT_NONNULL(tree)->run();
    }
    if (settings.recursive && S_ISLNK(stat.st_mode)) return sendSymlink(toNanoseconds(stat.st_mtim));
    // A link named by the user stands for what it points to.
    FileUpload::Place place{AT_FDCWD, localPath, localPath, true};
    file = kj::heap<FileUpload>(links, std::move(place), remotePath, settings, tally);
    return KJ_ASSERT_NONNULL(file)->run(false).then([](Result<Entry>&& result) -> Status {
      if (!result.ok()) return std::move(result).error();
      return okStatus();
    });
  }

  kj::Promise<Status> sendSymlink(int64_t mtime) {
    std::string target(4096, '\0');
    ssize_t length = readlink(localPath.c_str(), target.data(), target.size());
    if (length < 0) return Status(errorFromErrno(errno, "cannot read the symlink", localPath));
    target.resize(length);
    Attributes attributes;
    if (settings.keepMetadata) attributes.mtime = mtime;
    return remoteSymlink(links, Repeat::NO, remotePath, std::move(target), settings.expectation, attributes,
                         settings.makeParents)
        .then([this](Result<Entry>&& result) -> Status {
          if (!result.ok()) return std::move(result).error();
          ++tally.summary.symlinks;
          return okStatus();
        });
  }
};

}  // namespace

kj::Promise<Result<Entry>> writeFrom(Links& links, ByteProducer& source, std::string path, UploadSettings settings,
                                     Progress* progress) {
  auto job = kj::heap<WriteJob>(links, source, std::move(path), std::move(settings), progress);
  auto promise = job->run();
  return promise.attach(kj::mv(job));
}

kj::Promise<Result<TransferSummary>> uploadPath(Links& links, std::string localPath, std::string remotePath,
                                                UploadSettings settings, Progress* progress) {
  auto job = kj::heap<UploadJob>(links, std::move(localPath), std::move(remotePath), std::move(settings), progress);
  auto promise = job->run();
  return promise.attach(kj::mv(job));
}

}  // namespace capstan::client
