#include <capstan/server/compute/jobs/job-placing.h>

#include <capstan/base/digest.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/deliver.h>

namespace capstan::server::compute {

namespace {

struct Tally {
  Hasher hasher{DigestAlgorithm::XXH3};
  uint64_t size = 0;
};

// Hands everything on, and remembers what it was.
class TallyingSink final : public schema::ByteSink::Server {
 public:
  TallyingSink(schema::ByteSink::Client to, std::shared_ptr<Tally> tally) : to(kj::mv(to)), tally(std::move(tally)) {}

 protected:
  kj::Promise<void> write(WriteContext context) override {
    auto data = context.getParams().getData();
    tally->hasher.update(rpc::asView(data));
    tally->size += data.size();
    auto request = to.writeRequest(capnp::MessageSize{8 + data.size() / sizeof(capnp::word), 0});
    request.setData(data);
    context.releaseParams();
    return request.send();
  }
  kj::Promise<void> skip(SkipContext context) override {
    uint64_t count = context.getParams().getCount();
    tally->hasher.updateZeros(count);
    tally->size += count;
    auto request = to.skipRequest();
    request.setCount(count);
    return request.send();
  }
  kj::Promise<void> end(EndContext context) override { return context.tailCall(to.endRequest()); }

 private:
  schema::ByteSink::Client to;
  const std::shared_ptr<Tally> tally;
};

Status statusOf(schema::Outcome::Reader outcome) {
  KJ_IF_MAYBE (error, rpc::errorIn(outcome)) return *error;
  return okStatus();
}

kj::Promise<Status> commit(schema::Upload::Client upload) {
  return upload.commitRequest().send().then([](auto response) { return statusOf(response.getOutcome()); });
}

kj::Promise<Status> fill(BlockingPool& pool, schema::Upload::Client upload, Encoding encoding,
                         std::shared_ptr<const Content> content, NotePlacing note) {
  auto tally = std::make_shared<Tally>();
  schema::ByteSink::Client sink = kj::heap<TallyingSink>(upload, tally);
  // All is staged when end() has answered; only then is it sure what it was.
  return deliver(pool, std::move(content), kj::mv(sink), encoding)
      .then([upload](Status delivered) mutable -> kj::Promise<Status> {
        if (!delivered.ok()) return delivered;
        return upload.endRequest().send().then([](auto response) { return statusOf(response.getOutcome()); });
      })
      .then([tally, note = std::move(note)](Status staged) -> kj::Promise<Status> {
        if (!staged.ok()) return staged;
        return note(Placing{tally->size, tally->hasher.digest()});
      })
      .then([upload](Status noted) mutable -> kj::Promise<Status> {
        if (!noted.ok()) return noted;
        return commit(kj::mv(upload));
      });
}

}  // namespace

kj::Promise<Status> placeContent(BlockingPool& pool, schema::FileStore::Client store, const StoredOutput& output,
                                 std::shared_ptr<const Content> content, NotePlacing note) {
  auto request = store.createRequest();
  request.setPath(rpc::asData(output.path));
  auto options = request.initOptions();
  rpc::write(options.initExpectation(), output.expectation);
  rpc::write(options.initAttributes(), output.attributes);
  options.setMakeParents(output.makeParents);
  if (output.encoding == content->info().encoding) options.getExpectedSize().setKnown(content->info().bytes);
  return request.send().then([&pool, encoding = output.encoding, content = std::move(content),
                              note = std::move(note)](auto response) mutable -> kj::Promise<Status> {
    Status created = statusOf(response.getOutcome());
    if (!created.ok()) return created;
    return fill(pool, response.getUpload(), encoding, std::move(content), std::move(note));
  });
}

}  // namespace capstan::server::compute
