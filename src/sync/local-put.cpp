#include <capstan/sync/local-put.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/storage/file-copy.h>
#include <capstan/storage/place-file.h>
#include <capstan/storage/staged-file.h>
#include <capstan/storage/version.h>

namespace capstan::sync {

namespace {

using storage::StagedFile;
using Staged = std::shared_ptr<StagedFile>;

Prepared preparedOf(Staged file, const Operation& operation) {
  storage::PlaceFile place;
  place.path = operation.path;
  place.expectation = expectationOf(operation.expected);
  place.attributes = attributesOf(operation.node);
  Prepared prepared;
  prepared.make = [file = std::move(file), place = std::move(place)]() { return storage::makePlaceFile(file, place); };
  return prepared;
}

// Blocks.
Result<Staged> stage(storage::Staging& staging, const std::string& path, const Replica::Fetched& fetched,
                     const Attributes& attributes) {
  if (!fetched.node.digest.empty() && digestOf(DigestAlgorithm::XXH3, fetched.bytes) != fetched.node.digest) {
    return errorAt(ErrorCode::CORRUPT, path, "what arrived of ", " is not what its digest announced");
  }
  auto file = staging.create();
  if (!file.ok()) return file.error();
  if (!writeAt((*file)->fd(), fetched.bytes.data(), fetched.bytes.size(), 0)) {
    return errorFromErrno(errno, "cannot store", path);
  }
  Status set = storage::setStagedAttributes(**file, attributes);
  if (!set.ok()) return set.error();
  (*file)->closeFd();
  return file;
}

// Blocks.
Result<Staged> stageCopy(storage::Tree& tree, const Operation& operation) {
  auto changed = [&]() {
    return errorAt(ErrorCode::CHANGED, operation.source, "", " was changed before it could be copied");
  };
  auto from = tree.root->open(operation.source, O_RDONLY | O_NOFOLLOW, storage::Follow::NO);
  if (!from.ok()) return from.error();
  struct stat status;
  auto isExpected = [&](int fd) {
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
           (!operation.sourceNode || storage::versionOf(status) == operation.sourceNode->stamp);
  };
  if (!isExpected(*from)) return changed();
  auto file = tree.staging->create();
  if (!file.ok()) return file.error();
  storage::FileCopy copy(kj::mv(*from), kj::AutoCloseFd(dup((*file)->fd())), operation.path);
  while (true) {
    auto done = copy.step();
    if (!done.ok()) return done.error();
    if (*done) break;
  }
  if (!isExpected(copy.from())) return changed();
  Status set = storage::setStagedAttributes(**file, attributesOf(operation.node));
  if (!set.ok()) return set.error();
  return file;
}

kj::Promise<void> paced(const Replica::ApplyOptions& options, uint64_t bytes) {
  if (!options.pace) return kj::READY_NOW;
  return options.pace(bytes);
}

}  // namespace

Expectation expectationOf(const std::optional<Node>& node) {
  if (!node) return {Expectation::Kind::ABSENT, {}};
  return {Expectation::Kind::VERSION, node->stamp};
}

Attributes attributesOf(const Node& node) {
  Attributes attributes;
  attributes.mode = node.mode & ~uint32_t(S_ISUID | S_ISGID);
  attributes.mtime = node.mtime;
  return attributes;
}

kj::Promise<Result<Prepared>> putSmall(const PutContext& context, const Operation& operation) {
  using Answer = kj::Promise<Result<Prepared>>;
  return paced(context.options, operation.node.size)
      .then([&context, &operation]() { return context.from.fetch(operation.source, operation.node); })
      .then([&context, &operation](Result<Replica::Fetched> got) -> Answer {
        if (!got.ok()) return Result<Prepared>(got.error());
        auto fetched = std::make_shared<Replica::Fetched>(std::move(*got));
        auto& staging = *context.tree.staging;
        auto job = [fetched, path = operation.path, attributes = attributesOf(operation.node), &staging,
                    hold = staging.hold()]() { return stage(staging, path, *fetched, attributes); };
        return context.pool.run(std::move(job))
            .then([&context, &operation, fetched](Result<Staged> staged) -> Result<Prepared> {
              if (!staged.ok()) return staged.error();
              if (context.options.onMoved) context.options.onMoved(operation, fetched->bytes.size());
              Prepared prepared = preparedOf(std::move(*staged), operation);
              prepared.digest = fetched->node.digest;
              prepared.source = std::move(fetched->node);
              return prepared;
            });
      });
}

kj::Promise<Result<Prepared>> putCopy(const PutContext& context, const Operation& operation) {
  auto& tree = context.tree;
  auto job = [operation, &tree, hold = tree.staging->hold()]() { return stageCopy(tree, operation); };
  return context.pool.run(std::move(job)).then([&operation](Result<Staged> staged) -> Result<Prepared> {
    if (!staged.ok()) return staged.error();
    Prepared prepared = preparedOf(std::move(*staged), operation);
    prepared.digest = operation.node.digest;
    if (prepared.digest.empty() && operation.sourceNode) prepared.digest = operation.sourceNode->digest;
    return prepared;
  });
}

}  // namespace capstan::sync
