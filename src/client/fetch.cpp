#include <capstan/client/fetch.h>

#include <algorithm>

#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

using StatResponse = capnp::Response<schema::File::StatResults>;
using ReadResponse = capnp::Response<schema::File::ReadResults>;
using StreamResponse = capnp::Response<schema::File::StreamResults>;

// Takes no more than there is to be: whatever a server sends, a small file does not fill the disk.
class Bounded final : public ByteConsumer {
 public:
  Bounded(ByteConsumer& target, uint64_t most, Error beyond) : target(target), left(most), beyond(std::move(beyond)) {}

  kj::Promise<Status> write(std::string_view bytes) override {
    return take(bytes.size()) ? target.write(bytes) : kj::Promise<Status>(Status(beyond));
  }
  kj::Promise<Status> skip(uint64_t zeros) override {
    return take(zeros) ? target.skip(zeros) : kj::Promise<Status>(Status(beyond));
  }

 private:
  ByteConsumer& target;
  uint64_t left;
  const Error beyond;

  bool take(uint64_t count) {
    if (count > left) return false;
    left -= count;
    return true;
  }
};

class Fetch {
 public:
  Fetch(Links& links, std::string path, FetchRange range, FetchTarget& target, kj::Function<void(uint64_t)> advanced)
      : links(links),
        path(std::move(path)),
        target(target),
        advanced(kj::mv(advanced)),
        position(range.offset),
        limit(range.count > UINT64_MAX - range.offset ? UINT64_MAX : range.offset + range.count) {}

  kj::Promise<Result<Entry>> run() {
    return links.run<Entry>(Repeat::YES, [this](Connection& connection) { return attempt(connection); });
  }

 private:
  // Constant after construction.
  Links& links;
  std::string path;
  FetchTarget& target;
  kj::Function<void(uint64_t)> advanced;

  uint64_t position;  // all before it was taken by the target
  uint64_t limit;     // one behind the last byte that is wanted
  kj::Maybe<Entry> known;

  kj::Promise<Result<Entry>> attempt(Connection& connection);
  kj::Promise<Result<Entry>> onFirst(schema::File::Client file, uint64_t readFrom, ReadResponse&& response);
  kj::Promise<Result<Entry>> afterFirst(schema::File::Client file);
  kj::Promise<Result<Entry>> stream(schema::File::Client file);
  Status meet(schema::Entry::Reader from);
  Error changed() const {
    return errorAt(ErrorCode::CHANGED, path, "", " changed while it was being fetched; try again");
  }
  void took(uint64_t count) {
    position += count;
    links.progressed();
    advanced(count);
  }
};

kj::Promise<Result<Entry>> Fetch::attempt(Connection& connection) {
  auto open = connection.fileStore().openRequest();
  open.setPath(rpc::asData(path));
  auto file = open.send().getFile();
  auto stat = file.statRequest().send();
  auto read = file.readRequest();
  uint64_t readFrom = position;
  read.setOffset(readFrom);
  read.setCount(std::min(FIRST_READ, limit - position));
  // `this` is attached to the outermost promise.
  return stat.then(
      [this, file, readFrom, reading = read.send()](StatResponse&& response) mutable -> kj::Promise<Result<Entry>> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Result<Entry>(kj::mv(*error));
        }
        Status met = meet(response.getEntry());
        if (!met.ok()) return Result<Entry>(std::move(met).error());
        return reading.then([this, file = kj::mv(file), readFrom](ReadResponse&& response) mutable {
          return onFirst(kj::mv(file), readFrom, kj::mv(response));
        });
      });
}

Status Fetch::meet(schema::Entry::Reader from) {
  Entry entry = rpc::read(from);
  entry.path = path;
  KJ_IF_MAYBE (before, known) {
    if (before->version != entry.version) return changed();
    return okStatus();
  }
  Result<uint64_t> wanted = target.begin(entry);
  if (!wanted.ok()) return std::move(wanted).error();
  position = *wanted;
  known = std::move(entry);
  return okStatus();
}

kj::Promise<Result<Entry>> Fetch::onFirst(schema::File::Client file, uint64_t readFrom, ReadResponse&& response) {
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    return Result<Entry>(kj::mv(*error));
  }
  std::string_view data = rpc::asView(response.getData());
  uint64_t size = KJ_ASSERT_NONNULL(known).size;
  // The size was told just before these bytes were read.
  if (response.getAtEnd() && readFrom <= size && readFrom + data.size() != size) return Result<Entry>(changed());
  // Whatever the server sends, no more than was asked for.
  data = data.substr(0, std::min(FIRST_READ, limit - readFrom));
  uint64_t end = readFrom + data.size();
  if (!data.empty() && end > size) return Result<Entry>(changed());
  if (position >= end || data.empty()) return afterFirst(kj::mv(file));
  data.remove_prefix(position - readFrom);
  return target.write(data)
      .attach(kj::mv(response))
      .then([this, count = data.size(), file = kj::mv(file)](Status&& status) mutable -> kj::Promise<Result<Entry>> {
        if (!status.ok()) return Result<Entry>(std::move(status).error());
        took(count);
        return afterFirst(kj::mv(file));
      });
}

kj::Promise<Result<Entry>> Fetch::afterFirst(schema::File::Client file) {
  Entry& entry = KJ_ASSERT_NONNULL(known);
  if (position >= limit || position >= entry.size) return Result<Entry>(entry);
  return stream(kj::mv(file));
}

kj::Promise<Result<Entry>> Fetch::stream(schema::File::Client file) {
  uint64_t most = std::min(limit, KJ_ASSERT_NONNULL(known).size) - position;
  auto bounded = kj::heap<Bounded>(target, most, changed());
  auto link = kj::refcounted<SinkLink>(*bounded, [this](uint64_t count) { took(count); });
  auto request = file.streamRequest();
  request.setSink(link->newSink());
  request.setOffset(position);
  request.setCount(most);
  auto streaming = request.send().then([this, start = position](StreamResponse&& response) -> Result<Entry> {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      return kj::mv(*error);
    }
    uint64_t size = KJ_ASSERT_NONNULL(known).size;
    if (position != start + response.getCount() || position < std::min(limit, size)) return changed();
    Entry entry = rpc::read(response.getEntry());
    entry.path = path;
    return entry;
  });
  auto failing = link->consumerFailed().then([](Error&& error) { return Result<Entry>(kj::mv(error)); });
  auto detach = kj::defer([link = kj::mv(link)]() mutable { link->detach(); });
  return streaming.exclusiveJoin(kj::mv(failing)).attach(kj::mv(file), kj::mv(detach), kj::mv(bounded));
}

}  // namespace

kj::Promise<Result<Entry>> fetch(Links& links, std::string path, FetchRange range, FetchTarget& target,
                                 kj::Function<void(uint64_t)> advanced) {
  auto job = kj::heap<Fetch>(links, std::move(path), range, target, kj::mv(advanced));
  auto promise = job->run();
  return promise.attach(kj::mv(job));
}

}  // namespace capstan::client
