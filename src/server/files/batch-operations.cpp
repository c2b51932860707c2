#include <capstan/server/files/batch-operations.h>

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

}  // namespace

std::unique_ptr<Mutation> makeFailure(Error error) { return std::make_unique<Failure>(std::move(error)); }

TakenOperation read(schema::Operation::Reader operation) {
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
