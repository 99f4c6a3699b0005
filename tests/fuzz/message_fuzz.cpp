// Every message of the channels, from bytes: the first byte chooses which. What is read must come through writing and
// reading again unchanged.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <tuple>

#include "wire/codec.h"
#include "wire/messages.h"

namespace {

using namespace mesh;

using All = std::tuple<
    Welcome, Greeted, Greet, Hello, InventoryDelta, Resolved, Resolve, Torrent, PrepareSwarm, Introduced, JoinSwarm,
    UrlMembers, ConnectTo, CallBack, CallBack::Reply, Call, PresenceAsk, PresenceAsk::Reply, Unloaded, OriginAssignment,
    OriginReport, Made, HashFiles, Seed, Probed, ProbePath, Fetched, Fetch, Located, Locate, Listed, List, Versions,
    Info, StatusReply, StatusAsk, Glances, GlanceAsk, TorrentFile, TorrentAsk, NodePaths, PlacesAsk, WayMade, Handover,
    Outcomes, GetReply, Get, Wait, Cancelled, Cancel, Deleted, Delete, Ordered, Order, Relayed, Relay, StreamEnd,
    StreamBegin, StreamData, Stream, Progress, Notice, Pack, PreparePack, MakePack, IndexTell, IndexTold, IndexAsk,
    Indexed, IndexRest, AnnounceAsk, Announced, Leaves, LeavesAsk, SketchTold, SketchAsk, Teller, TellerAsk, Difference,
    DiffAsk, RangeTold, RangeAsk, ProfileTold, ProfileAsk, CacheUsage, CacheAsk, CheckUpTold, CheckUpAsk, MeshChecked,
    MeshCheckAsk, MountTold, MountAsk, EntryTold, EntryAsk, OpenTold, OpenAsk, ReadTold, ReadAsk, CloseNote,
    ClusterTold, ClusterAsk, SetTrackers, ObjectsTold, ObjectsAsk, PutDone, Put, ObjectDeleted, ObjectDelete>;

template <class Message>
void read(const std::string& bytes) {
  Message message;
  try {
    codec::decode(parse_bencode(bytes), message, Message::name);
  } catch (const CodecError&) {
    return;
  }
  std::string once;
  write_bencode(codec::encode(message), once);
  Message again;
  codec::decode(parse_bencode(once), again, Message::name);
  std::string twice;
  write_bencode(codec::encode(again), twice);
  if (once != twice) std::abort();
}

template <std::size_t... i>
void read_one(std::size_t which, const std::string& bytes, std::index_sequence<i...>) {
  ((i == which ? read<std::tuple_element_t<i, All>>(bytes) : void()), ...);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr auto count = std::tuple_size_v<All>;
  read_one(data[0] % count, std::string(reinterpret_cast<const char*>(data) + 1, size - 1),
           std::make_index_sequence<count>());
  return 0;
}
