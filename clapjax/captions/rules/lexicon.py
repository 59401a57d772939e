"""The words of audio captions: what the rules know of English, as data."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Verbs, by their base form.
VERBS = _words(
    """
    accelerate accept accompany activate actuate address adjust advance alter alternate announce
    annoy answer appear applaud apply approach argue arrive ascend ask attempt baa babble bake
    bang bark beat beckon become beep beg begin belch bellow bend billow blare blast bleat bleep
    blend blow boil boom bop bounce brake bray break breathe brush bubble bump burble burn burp
    burst bustle buzz cackle call calm canter carry catch caterwaul cause caw cease celebrate
    change chant chat chatter cheep cheer chew chime chip chirp chirrup chisel choke chomp chop
    chuckle chuff chug churn clack clang clank clap clash clasp clatter claw clear click
    click-clack climb cling clink clip clip-clop clomp clop close cluck clunk coast cock collide
    come comment commentate communicate complain connect continue convene converse coo cook
    cough crack crackle crank crash crawl creak create crest crinkle croak croon cross crow
    cruise crumble crumple crunch crush cry curse cut cycle dance debate decelerate declare
    decline decrease deflate deliver demonstrate depart depressurize descend describe dial die
    dig diminish ding disappear disconnect discuss dispatch dissolve distort dive downshift drag
    drain draw dribble drift drill drink drip drive drizzle drone drop drown drum dump eat echo
    emanate emit empty end engage enter entertain erupt escape exchange exclaim exhale exit
    explain explode express extinguish fade fake fall fart fasten fidget fight fill finish fire
    fizz fizzle flap flicker fling flood flow fluctuate flush flutter fly follow fry fuss gag
    gain gallop gargle gasp gather generate get giggle give glide gnaw go gobble grab grate
    greet grind groan grow growl grumble grunt guffaw gulp gurgle gush gust halt hammer handle
    hang happen haul have hear heckle hiccup hiss hit hoist hold holler honk hoot hop hover howl
    huff hum hurl hush idle ignite imitate include increase inflate inhale insert instruct
    interact interrupt interview introduce involve jabber jangle jeer jiggle jingle jog join
    joke jostle jump keep kick kiss knead knock laugh lead leak lessen let lick lift listen lock
    loosen lower lug lumber lurk make manipulate march mash meow mewl mimic mix moan mock
    modulate moo mop move mow mumble munch murmur mutter narrate neigh nibble nod occur oink
    ooze open operate oscillate overflow overlap panic pant pass pat patter pause peck pedal
    peep percolate perform pick pierce pile ping pitter pitter-patter place play plead plop plug
    plunk ponder pop pound pour power praise pray preach precede prepare press pretend proceed
    produce prolong pry puff pull pulsate pulse pump punch purr push put putter quack quicken
    quiet quieten quit quiver race raise rap rasp rattle react rebound recede recite recover
    reduce reel reengage reeve refill rehearse release relieve reload remark remove repeat
    replace reply resonate respond restart result resume retort return rev reverberate reverse
    rewind ricochet ride ring rip ripple rise roam roar roast roll rotate rub ruffle rumble run
    rush rustle sail sand saw say scamper scan scatter scold scoop scrap scrape scratch scream
    screech scrub scrunch scuff scuffle scurry scuttle seep serve set settle sew shake sharpen
    shatter shave shift shiver shoot shout shovel shred shriek shudder shuffle shush shut sigh
    signal simmer simulate sing sink sip sit sizzle skate skid skim skip skitter slam slap slash
    sleep slice slide slip slither slosh slow slurp smack smash smooch snap snarl sneeze snicker
    sniff sniffle snip snivel snooze snore snort snuffle sob soften sound spark speak speed
    spill spin spit splash splat splatter spool spray spread spurt sputter squash squawk squeak
    squeal squeeze squirt squish stab stabilize stagger stall stamp stand start steer step stir
    stitch stomp stop stride strike struggle strum stumble stutter subside suck surge swallow
    swarm swat sway swear sweep swig swim swing swirl swish switch swoop swoosh take talk tap
    taunt teach tear tease tell thank thicken thrash throb throttle throw thrum thud thump
    thunder tick tick-tock tickle ticktock tidy tighten tingle tinker tinkle tip tiptoe titter
    toll toot toss touch trail trample travel traverse tremble trickle trill trip trot trudge
    trumpet try tug tumble turn tutor twang tweet twist twitter type unfasten unfold unlatch
    unlock unpack unplug unwrap unzip urinate use utter vacuum vary vault verbalize vibrate
    vocalize vomit vroom wade wag wail wake walk wander want warble wash watch wave weep welcome
    whack wheeze whimper whine whinny whip whir whirl whisk whisper whistle whittle whiz whoop
    whoosh win wipe wobble woof work wrap wriggle write yap yawn yell yelp yip yodel yowl zap
    zip zoom
    """
)
# Verbs whose -s form is a plural noun after an adjective or a preposition: "soft clicks".
NOUNS_TOO = _words(
    """
    answer baa babble bang bark beat beep belch bellow blare blast bleat bleep boom brake break
    bubble bump burp burst buzz call catch caw chant chatter cheep cheer chime chip chirp
    chuckle clack clang clank clap clatter click clink clip-clop clunk comment coo cough crack
    crackle crank crash creak croak crow crunch cry curse cut ding drill drink drip drone drop
    drum echo end fall fart fire flap flush flutter gasp giggle groan growl grunt guffaw gulp
    gust hammer hiccup hiss hit honk hoot howl hum jingle kick knock laugh lead lock meow moan
    moo mumble murmur mutter oink pant pass peep pick ping plop pop power press puff pull pulse
    pump punch purr quack race rap rattle reply return rev ride ring rip ripple roar roll rub
    rumble run rustle saw scrape scratch scream screech scuffle shake shift shout shriek shuffle
    sigh signal skip slam slap slide smack snap snarl sneeze sniff sniffle snooze snore snort
    sob sound spark speed spin splash splatter spray squawk squeak squeal squirt step stitch
    strike stutter surge swing swirl swish switch swoop swoosh tap tear thud thump tick ticktock
    titter toll toot toss touch trickle trill trumpet tweet wail walk warble wash wave wheeze
    whimper whine whip whir whirl whisper whistle whoop whoosh woof yap yawn yell yelp yip yodel
    zip zoom
    """
)
# Verbs that double the last consonant before -ing and -ed.
DOUBLED = _words(
    """
    beg begin bop chat chip chop chug clap clip clip-clop clop cut dig drag drip drop drum emit
    flap gag get grab hit hop hum jog let lug mop nod occur pat plop plug pop put quit rap rev
    rip rub run scan scrap scrub set shred shut sip sit skid skip slam slap slip snap snip sob
    spin spit splat stab step stir stop strum swat swig swim tap throb thrum thud tip trip trot
    tug unplug unwrap wag whip whir whiz win wrap yap yip zap zip
    """
)
AUXILIARIES = _words("am are can could did do does had has have is was were will would")
DETERMINERS = _words(
    """
    a all an another any both couple different each eight every few five four her his its lots
    many more multiple my nine no numerous one other our seven several six some ten that the
    their these this those three two various your
    """
)
# Determiners that make a noun phrase singular, or plural.
SINGULAR = _words("a an another each every one this")
PLURAL = _words(
    """
    all both different eight few five four lots many multiple nine numerous seven several six
    some ten these those three two various
    """
)
PREPOSITIONS = _words(
    """
    about above across against along alongside amid amidst among around at behind below beneath
    beside between by concurrent down during for from in inside into like near of off on onto
    out outside over past per through throughout to toward towards under until up upon via with
    within without
    """
)
SUBORDINATORS = _words("as because so that when whenever where which while whilst who")
PRONOUNS = _words("anyone everybody everyone he it others she somebody someone something they who")
ADVERBS = _words(
    """
    abruptly afar again almost aloud also around away backwards briefly by faintly fast first
    forward forwards hard indoors inside just loud nearby often once onward outdoors outside
    over overhead quickly repeatedly sometimes soon still suddenly then together too twice very
    """
)
# They end in -ly and are none.
NOT_ADVERBS = _words(
    """
    ally assembly belly bubbly crinkly elderly family fly friendly ghastly hourly housefly
    lively lonely lovely only reply silly ugly wobbly
    """
)
ADJECTIVES = _words(
    """
    additional adventurous aerosol ambient amplified angry annoying automatic big brief busy
    calm ceramic classical clean close closed consistent constant continuous crowded deep deeper
    diesel digital dirty distant distinct distorted distressed domestic double dramatic dry dull
    eerie electric electrical electronic emergency empty enclosed excited extra faint far fast
    few fierce final foreign full funny gentle guttural happy hard harsh heavier heavy high
    high-pitched higher hollow huge human hydraulic impassioned inconsistent indistinct
    individual indoor industrial initial intermittent irregular large light lighter little long
    loud louder low low-pitched lowered many mechanical medium medium-size medium-sized metallic
    mid-size mid-sized middle-aged mild moderate monotone more muffled multiple musical nasal
    nearby noisy numerous occasional odd old older oncoming ongoing open outdoor passionate
    persistent piercing pneumatic powerful private public quick quiet quieter raised random
    rapid regular repeated repetitive rhythmic robotic rough rubber sad same several shallow
    sharp short shrill single slight slightly slow small smooth soft soft-spoken softer solid
    some squeaky steady strange strong subsequent sudden sustained synthesized thick thin tiny
    triple unintelligible upbeat various vigorous visible wet whole windy wooden young younger
    """
)
# Base -> past and participle, where they are not formed with -ed.
IRREGULAR_PAST = {
    "beat": "beat beaten", "become": "became become", "begin": "began begun",
    "blow": "blew blown", "break": "broke broken", "burst": "burst burst",
    "catch": "caught caught", "choose": "chose chosen", "come": "came come", "cut": "cut cut",
    "drink": "drank drunk", "drive": "drove driven", "eat": "ate eaten", "fall": "fell fallen",
    "fight": "fought fought", "fly": "flew flown", "get": "got gotten", "give": "gave given",
    "go": "went gone", "grind": "ground ground", "grow": "grew grown", "hang": "hung hung",
    "have": "had had", "hear": "heard heard", "hit": "hit hit", "hold": "held held",
    "lead": "led led", "leave": "left left", "make": "made made", "put": "put put",
    "ride": "rode ridden", "ring": "rang rung", "run": "ran run", "say": "said said",
    "shake": "shook shaken", "shoot": "shot shot", "shut": "shut shut", "sing": "sang sung",
    "sit": "sat sat", "sleep": "slept slept", "slide": "slid slid", "speak": "spoke spoken",
    "spin": "spun spun", "spit": "spat spat", "stand": "stood stood", "strike": "struck struck",
    "sweep": "swept swept", "swim": "swam swum", "swing": "swung swung", "take": "took taken",
    "tear": "tore torn", "tell": "told told", "throw": "threw thrown", "wake": "woke woken",
    "wind": "wound wound", "write": "wrote written",
}  # fmt: skip
IRREGULAR_PLURALS = {
    "children": "child", "feet": "foot", "geese": "goose", "hooves": "hoof", "knives": "knife",
    "leaves": "leaf", "men": "man", "mens": "man", "mice": "mouse", "oxen": "ox",
    "people": "person", "teeth": "tooth", "wolves": "wolf", "women": "woman",
}  # fmt: skip
UNMARKED_PLURALS = _words("cattle livestock police")
# Plural unless an article says otherwise.
UNMARKED = _words("aircraft fish sheep")
# They end in -s and are no plurals.
SINGULAR_S = _words(
    """
    bass brass bus chorus circus class gas glass grass mass news press series stress
    """
)
# They end in -ing and are none.
NOT_GERUNDS = _words(
    """
    anything building ceiling clothing during evening everything lightning morning nothing
    plumbing something spring string
    """
)
# A gerund before one of these is part of the noun: "a whining sound".
NOISES = _words("effect effects machine machines motion noise noises sound sounds")
# The verb may agree with the second noun: "a group of people".
GROUPS = _words(
    """
    audience bunch chorus couple crowd flock group herd lot lots number pack pair series set
    swarm team variety
    """
)
MALE = _words("boy boys father gentleman guy guys male males man men")
FEMALE = _words("female females girl girls ladies lady mother woman women")
PERSONS = (
    MALE
    | FEMALE
    | _words(
        """
    adult adults announcer another audience babies baby child children commentator couple crowd
    everyone family group human humans individual individuals infant infants kid kids narrator
    others people person reporter singer somebody someone speaker team teenager toddler toddlers
    youth
    """
    )
)
ANIMALS = _words(
    """
    animal animals bee bees bird birds bug bugs bull cat cats chicken chickens cow cows creature
    creatures cricket crickets crow crows dog dogs donkey dove doves duck ducks flies fly frog
    frogs geese goat goats goose hen hens horse horses insect insects kitten kittens lamb lambs
    lion lions mice monkey monkeys mosquito mouse owl owls parrot pig pigeon pigeons pigs
    puppies puppy rat rats rooster roosters seagull seagulls sheep snake toad turkey turkeys
    wolf wolves
    """
)
# What only people do.
HUMAN_VERBS = _words(
    """
    announce answer applaud belch burp chant chuckle comment communicate converse cough dial
    exclaim fart gasp giggle hammer hang hiccup laugh mumble mutter narrate pick read reply
    respond say shave shout sigh sing sneeze speak talk tell type use whisper whistle write yawn
    yell
    """
)
# What a person or an animal also does, right after another sound: "coughing then groaning".
VOICE_VERBS = HUMAN_VERBS | _words(
    """
    bark bleat breathe cheer chirp clap cry exhale groan growl grunt howl inhale meow moan oink
    quack scream sniff sniffle snore sob squeal whimper whine
    """
)
# What engines and vehicles do, among others; and what only they do.
MOTION_VERBS = _words(
    """
    approach cruise drive fly move operate pass race run shift slow speed start stop travel turn
    work zoom
    """
)
ENGINE_VERBS = _words(
    """
    accelerate backfire chug decelerate downshift idle rev sputter stall throttle
    """
)
# Pronouns whose noun may stand in another event; singular or plural.
PRONOUN_NUMBER = {
    "he": "s", "it": "s", "she": "s", "they": "p",
}  # fmt: skip
# Other words that refer to what was said before.
REFERRING = _words(
    """
    additional again also back both continue continued continues continuing different either
    else elsewhere final finish finishes follow follows former further he her hers herself him
    himself his instead it its itself last later latter meanwhile more next other others
    previous previously rejoin remaining repeat repeating repeats replies reply replying respond
    responded responding responds response rest restart restarts resume resumes resuming return
    returning returns same second she similar so still stopping subsequent such their theirs
    them themselves thereafter these they third this those too
    """
)
COMPARATIVES = _words(
    """
    clearer closer deeper farther faster further harder heavier higher lighter longer louder
    lower nearer quieter shorter slower softer stronger weaker
    """
)
# They keep their capital inside a sentence.
PROPER = _words(
    """
    African American Arabic Asian Beijing British Chinese Christmas Doppler English European
    French Geiger German Hindi Indian Italian Jackson Japanese Korean Michael Morse PA RC
    Russian Santa Spanish Styrofoam TV Velcro
    """
)
