// A client of a Capstan server: connects, logs in, calls, transfers, and comes back after a broken connection. For
// programs that run a KJ event loop; blocking-client.h is the same for others. The `capstan` command is written with
// nothing else.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <capnp/message.h>
#include <kj/async-io.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/client/compute.h>
#include <capstan/client/share.h>
#include <capstan/client/transfer-types.h>
#include <capstan/client/trash.h>
#include <capstan/client/watch.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/tls.h>
#include <capstan/schema/compute.capnp.h>
#include <capstan/schema/gateway.capnp.h>

namespace capstan::client {

struct Options {
  rpc::Address address;
  std::vector<rpc::Address> moreAddresses = {};  // of the same server, tried in order where that one does not answer
  rpc::Security security = {};  // how to speak and whom to trust; by default TLS with the system's authorities, except
                                // to this machine
  std::string token;            // the secret's 32 bytes; empty where none is needed
  // The token is this user's own, which nobody has named: without TLS it is sent over TCP only to what this user, or
  // root, listens with on this machine. Others are asked without it.
  bool tokenIsOwn = false;
  std::string name = "capstan-client";       // for the server's log
  uint64_t connectTimeout = 10'000'000'000;  // nanoseconds
  // How long whoever has taken the connection may take for the first answer, where that is longer: a server that is
  // just being started has its connections before it can answer them.
  uint64_t answerTimeout = 0;
  // After a broken connection, calls that are safe to repeat are repeated on a new connection, with exponential backoff
  // and jitter (100 ms to 5 s), until this many nanoseconds have passed without success. 0: never. The first connection
  // is not retried unless retryFirst is set.
  uint64_t retryFor = 60'000'000'000;
  bool retryFirst = false;
  std::function<void(const std::string& reason, uint64_t waitNanoseconds)> onRetry;
};

// What hello() tells, copied out of the message.
struct ServerInfo {
  std::string name, version, host;
  uint32_t protocolVersion = 0, oldestProtocolVersion = 0, processId = 0;
  uint64_t uptime = 0;                               // nanoseconds
  uint64_t maxRead = 0, maxPut = 0, writeChunk = 0;  // bytes
  uint32_t maxOpenFiles = 0, maxUploads = 0;         // held by one connection
  bool needsToken = false;
};

// Belongs to one event loop; destroying it cancels what it has under way. Every promise that it returns must be dropped
// or have resolved before it is destroyed. Local files are read and written on the calling loop, a chunk at a time.
//
// All methods answer failures that a user can cause as Error values, among them `unreachable` when there is no server,
// it is no Capstan server, or the connection broke and retryFor has passed, `protocolVersion`, and `denied` when the
// token is wrong or the server is not the one that was expected (rpc/tls.h). Reading calls, uploads, and
// makeDirectory() with `parents`, are repeated after a broken connection; other mutations are not: their `unreachable`
// says that it is not known whether they took effect. What the server refuses because it is `overloaded` is tried again
// later, for as long as retryFor has it. Pipelined throughout: connecting, logging in and the first call cost one round
// trip together (after TCP's own).
class Client {
 public:
  // `network` and `timer` must outlive it. Nothing is connected before the first call.
  Client(kj::Network& network, kj::Timer& timer, Options options);
  ~Client() noexcept(false);
  KJ_DISALLOW_COPY(Client);

  // The capabilities themselves, of the current connection (made if there is none), for calls that have no method here.
  // They break with the connection.
  kj::Promise<Result<schema::Gateway::Client>> gateway();
  kj::Promise<Result<schema::Session::Client>> session();
  kj::Promise<Result<schema::FileStore::Client>> fileStore();
  kj::Promise<Result<schema::Compute::Client>> compute();

  kj::Promise<Result<ServerInfo>> hello();
  // The schema's Status, in a message of its own.
  kj::Promise<Result<std::shared_ptr<capnp::MallocMessageBuilder>>> status();

  kj::Promise<Result<Entry>> stat(std::string path, bool follow = false);
  // Calls `onEntry` for each entry in order. The folder's entries, or with `recursive` all below it; and then
  // `onUnread` for each folder below it that could not be read, after its entry, instead of what is in it.
  kj::Promise<Status> list(std::string path, bool recursive, std::function<void(Entry&&)> onEntry,
                           std::function<void(Error&&)> onUnread = {});
  kj::Promise<Result<std::string>> digest(std::string path, DigestAlgorithm algorithm);  // raw bytes

  kj::Promise<Result<Entry>> makeDirectory(std::string path, bool parents = false, Attributes attributes = {});
  kj::Promise<Result<Entry>> symlink(std::string path, std::string target, Expectation expectation = {},
                                     Attributes attributes = {}, bool makeParents = true);
  kj::Promise<Result<Entry>> setMetadata(std::string path, Attributes attributes, Expectation expectation = {});
  kj::Promise<Result<Entry>> rename(std::string from, std::string to, Expectation toExpectation = {},
                                    bool makeParents = true);
  kj::Promise<Result<Entry>> copy(std::string from, std::string to, Expectation toExpectation = {},
                                  bool makeParents = true);
  kj::Promise<Result<Entry>> remove(std::string path, bool recursive = false, Expectation expectation = {});

  // One file's content, or `count` bytes of it from `offset`, to a sink. A file that fits into one read costs one round
  // trip.
  kj::Promise<Result<Entry>> read(std::string path, ByteConsumer& sink, uint64_t offset = 0,
                                  uint64_t count = UINT64_MAX, Progress* progress = nullptr);
  // Content of unknown length from a source into one file. A broken connection is an error: a source cannot be rewound.
  kj::Promise<Result<Entry>> write(ByteProducer& source, std::string path, UploadSettings settings = {},
                                   Progress* progress = nullptr);

  // One local file or (settings.recursive) folder to exactly this remote path, and back. See transfer-types.h. A
  // symlink named here stands for the file that it points to; with `recursive` it is transferred itself, as all
  // symlinks in a folder are.
  kj::Promise<Result<TransferSummary>> upload(std::string localPath, std::string remotePath,
                                              UploadSettings settings = {}, Progress* progress = nullptr);
  kj::Promise<Result<TransferSummary>> download(std::string remotePath, std::string localPath,
                                                DownloadSettings settings = {}, Progress* progress = nullptr);

  // Tells what changes on the server, until the promise is dropped: see watch.h.
  kj::Promise<Status> watch(WatchSettings settings);

  // The server's trash: see trash.h, and schema/files.capnp. Runs come with the latest first. Unknown runs are
  // notFound; what has left the trash already is expired.
  kj::Promise<Result<std::vector<Run>>> runs();
  // Calls `onItem` for each thing that a run (empty: any) displaced at and below the path.
  kj::Promise<Status> listTrash(std::string run, std::string path, std::function<void(TrashItem&&)> onItem);
  kj::Promise<Result<UndoSummary>> undo(std::string run);
  // Of the run, or of the latest that has it, to `to`, or where it was.
  kj::Promise<Result<Entry>> restore(std::string run, std::string path, std::string to = {});
  // What is older than so many nanoseconds; 0: all. Answers the bytes that were freed.
  kj::Promise<Result<uint64_t>> emptyTrash(uint64_t olderThan = 0);

  // Shares: see share.h, and schema/access.capnp for terms and errors. They are made from what this login has, and give
  // no more. share() is not repeated after a broken connection: one that nobody knows the token of may be left then.
  kj::Promise<Result<NewShare>> share(ShareTerms terms);
  // All that were made from this login's grant, each behind the one that it was made from; also those that have ended.
  kj::Promise<Result<std::vector<Share>>> shares();
  // This login's own grant.
  kj::Promise<Result<Share>> currentShare();
  // Ends a share and all made from it; answers how many were live. Nothing under them succeeds any more when it
  // resolves.
  kj::Promise<Result<uint32_t>> revokeShare(std::string id);
  kj::Promise<Result<Contact>> contact();

  // Computing: see compute.h, and schema/compute.capnp for what each computation does and its errors. Inputs that fit
  // into a message, and stored files, cost one round trip with login and all; dropping the promise stops the
  // computation. Repeated after a broken connection, unless an input is streamed. `onWork`, if there is one, is called
  // five times a second from when the input has been sent until the result is there.
  kj::Promise<Result<Number>> add(std::vector<Number> numbers);
  kj::Promise<Result<Number>> reduce(ComputeInput input, Reduction reduction, OnWork onWork = {});
  kj::Promise<Result<std::vector<int64_t>>> sort(std::vector<int64_t> numbers, SortSettings settings = {});
  kj::Promise<Result<std::vector<double>>> sort(std::vector<double> numbers, SortSettings settings = {});
  kj::Promise<Result<std::vector<std::string>>> sort(std::vector<std::string> texts, SortSettings settings = {});
  // The whole result in memory, whatever its type.
  kj::Promise<Result<ComputedValue>> compute(Computation computation);
  // The result to a sink, in an encoding: UNSET leaves numbers that were given as lines as they were written, all else
  // comes as LINES. A connection that breaks after the first byte is an error. `onInfo`, if there is one, is called
  // before the first byte, for which the stream has to wait another round trip.
  kj::Promise<Result<ValueInfo>> computeTo(Computation computation, ByteConsumer& sink,
                                           Encoding encoding = Encoding::UNSET,
                                           std::function<void(const ValueInfo&)> onInfo = {}, OnWork onWork = {});
  // The result into a remote file, atomic and durable: nothing of it passes through the client. Of `settings` counts
  // what concerns one file. Not repeated with another expectation than ANY.
  kj::Promise<Result<Entry>> computeInto(Computation computation, std::string path, UploadSettings settings = {},
                                         Encoding encoding = Encoding::UNSET, OnWork onWork = {});

  // Jobs, by their ids; they outlive connection and server. A submit that is repeated after a broken connection is the
  // same job. Unknown ids are notFound, forgotten ones expired.
  kj::Promise<Result<std::string>> submit(Computation computation, JobSettings settings = {});
  kj::Promise<Result<JobStatus>> jobStatus(std::string id);
  // Calls `onJob` for each, the latest first.
  kj::Promise<Status> listJobs(std::function<void(JobStatus&&)> onJob);
  // The status once the job has ended or `timeout` nanoseconds have passed (0: never); goes on over broken connections
  // and restarts of the server. That it did not end is no error: see JobStatus::hasEnded().
  kj::Promise<Result<JobStatus>> waitForJob(std::string id, uint64_t timeout = 0);
  // The status once the job has ended; calls `onReport` for its progress meanwhile, at most ten times a second. Also
  // goes on over broken connections. Dropping the promise ends nothing but the reports.
  kj::Promise<Result<JobStatus>> watchJob(std::string id, std::function<void(const JobStatus&)> onReport);
  // Resolves when the job has ended. Of one that ended otherwise: conflict.
  kj::Promise<Result<JobStatus>> cancelJob(std::string id);
  // Of a job that has ended. Not repeated after a broken connection.
  kj::Promise<Status> forgetJob(std::string id);
  // What compute(), computeTo() and computeInto() are for computations. Waits for the end of the job.
  kj::Promise<Result<ComputedValue>> jobResult(std::string id);
  kj::Promise<Result<ValueInfo>> jobResultTo(std::string id, ByteConsumer& sink, Encoding encoding = Encoding::UNSET,
                                             std::function<void(const ValueInfo&)> onInfo = {});
  kj::Promise<Result<Entry>> jobResultInto(std::string id, std::string path, UploadSettings settings = {},
                                           Encoding encoding = Encoding::UNSET);

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

}  // namespace capstan::client
