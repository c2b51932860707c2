#include <capstan/server/files/batch-operations.h>

#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/storage/copy-tree.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/place-file.h>

namespace capstan::server::files {

namespace {

using Taken = std::unique_ptr<Mutation>;

std::string textOf(capnp::Data::Reader data) { return std::string(rpc::asView(data)); }

class Failure final : public Mutation {
 public:
  explicit Failure(Error error) : error(std::move(error)) {}
  Result<Entry> apply(Round&) override { return error; }

 private:
  const Error error;
};

TakenOperation readPut(schema::Operation::Put::Reader put) {
  auto options = put.getOptions();
  std::string path = textOf(put.getPath());
  auto attributes = rpc::read(options.getAttributes());
  if (!attributes.ok()) return makeFailure(attributes.error());
  auto check = rpc::read(put.getCheck());
  if (!check.ok()) return makeFailure(check.error());
  if (put.getContent().size() > MAX_PUT_BYTES) {
    return makeFailure(
        errorAt(ErrorCode::TOO_LARGE, path, "the content for ",
                " is larger than a put takes, which is " + std::to_string(MAX_PUT_BYTES) + " bytes; use an upload"));
  }
  return PutJob{0,
                std::move(path),
                rpc::read(options.getExpectation()),
                *attributes,
                options.getMakeParents(),
                std::move(*check),
                textOf(put.getContent())};
}

Taken readMakeDirectory(schema::Operation::MakeDirectory::Reader make) {
  auto attributes = rpc::read(make.getAttributes());
  if (!attributes.ok()) return makeFailure(attributes.error());
  return makeMakeDirectory(textOf(make.getPath()), *attributes, make.getParents());
}

Taken readSymlink(schema::Operation::Symlink::Reader symlink) {
  auto attributes = rpc::read(symlink.getAttributes());
  if (!attributes.ok()) return makeFailure(attributes.error());
  return makeSymlink({textOf(symlink.getPath()), textOf(symlink.getTarget()), rpc::read(symlink.getExpectation()),
                      *attributes, symlink.getMakeParents()});
}

Taken readSetMetadata(schema::Operation::SetMetadata::Reader set) {
  auto attributes = rpc::read(set.getAttributes());
  if (!attributes.ok()) return makeFailure(attributes.error());
  return makeSetMetadata(textOf(set.getPath()), *attributes, rpc::read(set.getExpectation()));
}

Taken readRename(schema::Operation::Rename::Reader rename) {
  return makeRename({textOf(rename.getFrom()), textOf(rename.getTo()), rpc::read(rename.getFromExpectation()),
                     rpc::read(rename.getToExpectation()), rename.getMakeParents()});
}

TakenOperation readCopy(schema::Operation::Copy::Reader copy) {
  auto attributes = rpc::read(copy.getAttributes());
  if (!attributes.ok()) return makeFailure(attributes.error());
  return CopyOptions{textOf(copy.getFrom()),
                     textOf(copy.getTo()),
                     rpc::read(copy.getFromExpectation()),
                     rpc::read(copy.getToExpectation()),
                     copy.getMakeParents(),
                     *attributes,
                     true};
}

// What a file takes on the disk, however little is in it.
constexpr size_t BLOCK_BYTES = 4096;
constexpr size_t MAX_TARGET_BYTES = 4095;
constexpr size_t MAX_VERSION_BYTES = 64;
constexpr size_t OVERHEAD_BYTES = 128;  // of each operation

class Measuring {
 public:
  void text(capnp::Data::Reader data, size_t limit) {
    size.tooLong = size.tooLong || data.size() > limit;
    size.kept += data.size();
  }
  void path(capnp::Data::Reader data) { text(data, MAX_PATH_BYTES); }
  void expectation(schema::Expectation::Reader from) {
    if (from.isVersion()) text(from.getVersion(), MAX_VERSION_BYTES);
  }
  void put(schema::Operation::Put::Reader put) {
    path(put.getPath());
    expectation(put.getOptions().getExpectation());
    text(put.getCheck().getDigest().getValue(), MAX_VERSION_BYTES);
    size.staged = std::max(put.getContent().size(), BLOCK_BYTES);
  }
  // A rename or a copy.
  template <typename Reader>
  void pair(const Reader& operation) {
    path(operation.getFrom());
    path(operation.getTo());
    expectation(operation.getFromExpectation());
    expectation(operation.getToExpectation());
  }

  OperationSize size{OVERHEAD_BYTES, 0, false};
};

}  // namespace

OperationSize sizeOf(schema::Operation::Reader operation) {
  Measuring measuring;
  switch (operation.which()) {
    case schema::Operation::PUT: measuring.put(operation.getPut()); break;
    case schema::Operation::MAKE_DIRECTORY: measuring.path(operation.getMakeDirectory().getPath()); break;
    case schema::Operation::SYMLINK:
      measuring.path(operation.getSymlink().getPath());
      measuring.text(operation.getSymlink().getTarget(), MAX_TARGET_BYTES);
      measuring.expectation(operation.getSymlink().getExpectation());
      break;
    case schema::Operation::SET_METADATA:
      measuring.path(operation.getSetMetadata().getPath());
      measuring.expectation(operation.getSetMetadata().getExpectation());
      break;
    case schema::Operation::RENAME: measuring.pair(operation.getRename()); break;
    case schema::Operation::COPY: measuring.pair(operation.getCopy()); break;
    case schema::Operation::REMOVE:
      measuring.path(operation.getRemove().getPath());
      measuring.expectation(operation.getRemove().getExpectation());
      break;
    case schema::Operation::UNSET: break;
  }
  if (measuring.size.tooLong) return {OVERHEAD_BYTES, 0, true};
  return measuring.size;
}

std::unique_ptr<Mutation> makeFailure(Error error) { return std::make_unique<Failure>(std::move(error)); }

TakenOperation read(schema::Operation::Reader operation) {
  if (sizeOf(operation).tooLong) {
    return makeFailure({ErrorCode::INVALID_PATH, "a path takes at most 4096 bytes, and a symlink's target 4095", {}});
  }
  switch (operation.which()) {
    case schema::Operation::PUT: return readPut(operation.getPut());
    case schema::Operation::MAKE_DIRECTORY: return readMakeDirectory(operation.getMakeDirectory());
    case schema::Operation::SYMLINK: return readSymlink(operation.getSymlink());
    case schema::Operation::SET_METADATA: return readSetMetadata(operation.getSetMetadata());
    case schema::Operation::RENAME: return readRename(operation.getRename());
    case schema::Operation::COPY: return readCopy(operation.getCopy());
    case schema::Operation::REMOVE: {
      auto remove = operation.getRemove();
      return makeRemove(textOf(remove.getPath()), remove.getRecursive(), rpc::read(remove.getExpectation()));
    }
    case schema::Operation::UNSET: break;
  }
  return makeFailure({ErrorCode::UNSUPPORTED, "the batch has an operation that this server does not know", {}});
}

Result<std::vector<std::unique_ptr<Mutation>>> stageAll(Staging& staging, std::vector<PutJob> jobs) {
  std::vector<std::unique_ptr<Mutation>> mutations;
  for (auto& job : jobs) {
    auto file = stageWhole(staging, job.path, job.attributes, job.content, job.check);
    if (file.ok()) {
      PlaceFile options{std::move(job.path), std::move(job.expectation), job.attributes, job.makeParents, false};
      mutations.push_back(makePlaceFile(std::move(*file), std::move(options)));
    } else if (file.error().code == ErrorCode::CORRUPT) {
      mutations.push_back(makeFailure(file.error()));
    } else {
      return file.error();
    }
    job.content = std::string();
  }
  return mutations;
}

}  // namespace capstan::server::files
