"""The words of audio captions that a dictionary cannot place: what the rules know, as data."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Verbs whose -s form is a plural noun after an adjective or a preposition: "soft clicks".
SOUNDS = _words("""answer baa babble bang bark beat beep belch bellow blare blast bleat bleep boom
brake break bubble bump burp burst buzz call catch caw chant chatter cheep cheer chime chip chirp
chuckle clack clang clank clap clatter click clink clip-clop clunk comment coo cough crack crackle
crank crash creak croak crow crunch cry curse cut ding drill drink drip drone drop drum echo end
fall fart fire flap flush flutter gasp giggle groan growl grunt guffaw gulp gust hammer hiccup hiss
hit honk hoot howl hum jingle kick knock laugh lead lock meow moan moo mumble murmur mutter oink
pass peep pick ping plop pop power press puff pull pulse pump punch purr quack race rap rattle reply
return rev ride ring rip ripple roar roll rub rumble run rustle saw scrape scratch scream screech
scuffle shake shift shout shriek shuffle sigh signal skip slam slap slide smack snap snarl sneeze
sniff sniffle snooze snore snort sob sound spark speed spin splash splatter spray squawk squeak
squeal squirt step stitch strike stutter surge swing swirl swish switch swoop swoosh tap tear thud
thump tick ticktock titter toll toot toss touch trickle trill trumpet tweet wail walk warble wash
wheeze whimper whine whip whir whirl whisper whistle whoop whoosh woof yap yawn yell yelp yip yodel
zip zoom""")
# Verbs that a dictionary has as nouns as well, or does not have; in captions they are verbs.
VERBS = _words("""address advance alternate approach attempt bend billow blend blow boil bounce bray
brush burble burn bustle cackle calm cause change chat chew chirrup choke chop chuff chug churn
clash clear click-clack climb clip clomp clop close cluck come converse cook crawl crinkle cross
cruise crumble crush cycle dance decline decrease dial die dig dispatch dive drag drain draw dribble
drift drive drizzle dump empty escape exit fidget fight fill finish fizz flicker fling flood flow
fly fry fuss gag gain gallop gargle gather give glide go gobble grab grate grind grumble gurgle gush
halt handle haul hoist hold holler hop huff hush idle increase insert join joke jump keep kiss leak
lick lift lower lumber make march mewl mimic mix mop move neigh nibble ooze open overflow overlap
panic pant pat patter pause peck pedal pitter-patter place play plug plunk pound pretend proceed
produce push putter quiet quieten quit quiver raise rasp rebound reel refill release repeat resume
reverse rewind ricochet rise roast ruffle rush sail say scatter scold scoop scrap screw scrub
scrunch scuff scurry scuttle set shave shiver shoot shovel shred shudder simmer sink sip skate skid
skitter slash sleep slice slip slow smash snicker snip snuffle spill spit splat spool spread spurt
sputter squash squeeze squish stagger stall stamp stand start steer stir stomp stop stride struggle
stumble swallow swarm swat sway sweep swig swim take talk taunt throb throttle throw tick-tock
tickle tidy tingle tinker tinkle tiptoe trail travel traverse tremble trip trot trudge try tug
tumble turn twang twist twitter type use vacuum vomit vroom wag wake watch whack whinny whisk win
wipe wobble work wrap wriggle yowl""")
# By their ending or by the dictionary verbs, gerunds or adverbs; in captions they are none.
NOT = _words("""ally anything assembly bar bars belly bless bubbly building ceiling clothing crinkly
during elderly evening everything family fly friendly ghastly hallow hourly housefly inset lightning
lively log logs lonely lovely mans morning nothing only pan pans plumbing reply scissor silly
something spring string ugly unwound whiles wobbly worn""")
AUXILIARIES = _words("am are can could did do does had has have is was were will would")
# Determiners that make a noun phrase singular, or plural.
SINGULAR = _words("a an another each every one this")
PLURAL = _words("""all both different eight few five four lots many multiple nine numerous seven
several six ten these those three two various""")
OTHER = _words("any couple her his its more my no other our some that the their your")
DETERMINERS = SINGULAR | PLURAL | OTHER
PREPOSITIONS = _words("""about above across against along alongside amid amidst among around at
behind below beneath beside between by concurrent down during for from in inside into like near of
off on onto out outside over past per through throughout to toward towards under until up upon via
with within without""")
# By which nothing is known again that sounds.
EMPTY = PREPOSITIONS | DETERMINERS | _words("and but etc or")
# Prepositions that end a verb phrase: "speeds up", "passes by".
PARTICLES = _words("around behind by down in inside off on out outside over past through up along")
SUBORDINATORS = _words("as because how if so that what when whenever where which while whilst who")
PRONOUNS = _words("anyone everybody everyone he it others she somebody someone something they who")
ADVERBS = _words("""abruptly afar again almost aloud also around away backwards briefly by faintly
far fast first forth forward forwards hard indoors inside just loud nearby often once onward
outdoors outside over overhead quickly repeatedly sometimes soon still suddenly then together too
twice very""")
ADJECTIVES = _words("""additional ambient amplified angry automatic big brief busy calm ceramic
classical clean close closed consistent constant continuous crowded deep deeper diesel digital
distant distinct distorted domestic double dramatic dry dull eerie electric electrical electronic
empty enclosed excited extra faint far fast final foreign full funny gentle guttural happy hard
harsh heavier heavy high high-pitched higher hollow huge human hydraulic indistinct indoor
industrial intermittent irregular large light lighter little long loud louder low low-pitched
mechanical medium metallic middle-aged mild moderate monotone more muffled musical nasal nearby
noisy occasional odd old older oncoming ongoing open outdoor passing persistent piercing powerful
quick quiet quieter rapid regular repeated repetitive rhythmic rough rubber sad shallow sharp short
shrill single slight slow small smooth soft softer solid squeaky steady strange strong subsequent
sudden sustained thick thin tiny triple upbeat vigorous wet whole windy wooden young younger""")
# A gerund before one of these is part of the noun: "a whining sound".
NOISES = _words("effect effects machine machines motion noise noises sound sounds")
# The verb may agree with the second noun: "a group of people".
GROUPS = _words("""audience bunch chorus couple crowd flock group herd lot lots number pack team
variety""")
PERSONS = _words("""adult announcer baby boy child commentator everyone father female gentleman girl
guy human individual infant kid lady male man mother narrator person reporter singer somebody
someone speaker teenager toddler woman""")
# Plural, whatever they end in; and plural unless an article says otherwise.
PLURALS = _words("cattle clothes livestock mens others oxen pans people police scissors")
UNMARKED = _words("aircraft fish sheep")
# Places of which there is one: "the distance" is nobody's.
PLACES = _words("""air background distance end foreground front ground middle room same side time
wind""")
# Words that refer to what was said before; verbs by their base.
REFERRING = _words("""additional again also another back both continue different either else
elsewhere final finish follow former further he her hers herself him himself his instead it its
itself last later latter meanwhile more next other others previous previously rejoin remaining
repeat reply respond response rest restart resume return same second she similar so still stopping
subsequent such their theirs them themselves thereafter these they third this those too""")
COMPARATIVES = _words("""clearer closer deeper farther faster further harder heavier higher lighter
longer louder lower nearer quieter shorter slower softer stronger weaker""")
# They keep their capital inside a sentence.
PROPER = _words("""African American Arabic Asian Beijing British Chinese Christmas Doppler English
European French Geiger German Hindi Indian Italian Jackson Japanese Korean Michael Morse PA RC
Russian Santa Spanish Styrofoam TV Velcro""")
# Words without which an event is still the same event.
NO_EVENT = _words(""", after afterwards and be before being but eventually finally first followed
following he him it later occur occurring occurs or preceded proceeded she them then there they
to""")
