"""English words as speakers of other languages might say them, in the spelling of their language.

A foreign voice of espeak-ng that reads English text is no accent: it reads by its own spelling
rules, or falls back to English sounds. It speaks with an accent when each word is spelt, in the
language's own orthography, with the sounds that a speaker of it would use: no [th] in German or
Russian, v for w, a vowel before "school" in Spanish, final vowels in Korean, stress where the
language puts it. The spellings are ours, made for the vocabulary of the miniature corpus.
"""

from __future__ import annotations

# The header: language codes of espeak-ng.
_TABLE = """
word      hi        ru        es        it        de        ko        tr
anna      ऐना       анна      ana       enna      anna      애나        enna
laura     लॉरा      лора      lora      lora      lora      로라        lora
martha    मार्था    марса     marza     marta     marßa     마싸        marta
peter     पीटर      питер     píter     piter     pieter    피터        pitır
robert    रॉबर्ट    роберт    róbert    robert    robbert   로버트       robırt
victor    विक्टर    виктор    víctor    vittor    wicktor   빅터        viktır
bought    बॉट       бот       bot       bot       boht      보트        bot
brought   ब्रॉट     брот      brot      brot      broht     브로트       brot
carried   कैरीड     керид     cárrid    kerrid    kärried   캐리드       kerid
found     फ़ाउंड    фаунд     faund     faund     faund     파운드       faund
painted   पेंटिड    пейнтед   péinted   peinted   pehnted   페인티드      peyntıd
sold      सोल्ड     соулд     sould     sold      sohld     솔드        sold
wanted    वॉन्टिड   вонтед    guánted   uonted    wonted    원티드       vantıd
zero      ज़ीरो      зироу     sirou     ziro      siroh     지로        ziro
one       वन        ван       uan       uan       wann      원          van
two       टू        ту        tu        tu        tuh       투         tu
three     थ्री      сри       srí       tri       sri       쓰리        tri
four      फ़ोर      фор       for       for       fohr      포         for
five      फ़ाइव     файв      faib      faiv      faif      파이브       fayv
six       सिक्स     сикс      siks      sics      sicks     식스        siks
seven     सेवन      севен     seben     seven     sewwen    세븐        sevın
eight     एट        эйт       éit       eit       eht       에잇        eyt
nine      नाइन      найн      náin      nain      nein      나인        nayn
ten       टेन       тен       ten       ten       tenn      텐         ten
thirty    थर्टी     сёрти     zerti     terti     ßörti     써티        törti
cold      कोल्ड     коулд     could     cold      kohld     콜드        kold
dark      डार्क     дарк      dark      dark      dark      다크        dark
green     ग्रीन     грин      grin      grin      grien     그린        grin
heavy     हेवी      хеви      jevi      evi       hewwi     헤비        hevi
old       ओल्ड      оулд      ould      old       ohld      올드        old
red       रेड       ред       red       red       red       레드        red
small     स्मॉल     смол      esmol     smol      smohl     스몰        smol
yellow    येलो      йелоу     yelou     iello     jelloh    옐로우       yelo
apples    एप्पल्स   эпплс     ápels     eppols    äppels    애플스       epıls
boats     बोट्स     боутс     bouts     bots      bohts     보우츠       bouts
books     बुक्स     букс      buks      buks      bucks     북스        buks
bottles   बॉटल्स    ботлс     bótels    bottols   bottels   보틀스       botıls
cards     कार्ड्स   кардс     cards     cards     kards     카드스       kards
chairs    चेयर्स    чэрс      chers     cers      tschärs   체어스       çeyrs
horses    हॉर्सेज़  хорсес    jorses    orses     horßes    호시스       horsıs
letters   लेटर्स    леттерс   léters    letters   letters   레터스       letırs
shirts    शर्ट्स    шёртс     cherts    scerts    schörts   셔츠        şörts
behind    बिहाइंड   бихайнд   bijáind   biaind    behaind   비하인드      bihaynd
near      नियर      ниар      nier      nir       nier      니어        niyır
the       द         зэ        de        de        se        더         dı
under     अंडर      андер     ánder     ander     ander     언더        andır
bridge    ब्रिज     бридж     brich     brigge    brittsch  브리지       bric
garden    गार्डन    гарден    gárden    garden    garden    가든        gardın
harbour   हार्बर    харбор    járbor    arbor     harbor    하버        harbır
market    मार्केट   маркет    márket    market    market    마켓        markıt
river     रिवर      ривер     ríver     river     riwwer    리버        rivır
school    स्कूल     скул      eskul     skul      skuhl     스쿨        sıkul
monday    मंडे      мандей    mándei    mandei    mandeh    먼데이       mandey
thursday  थर्सडे    сёрсдей   zérsdei   tersdei   ßörsdeh   써스데이      törsdey
today     टुडे      тудей     tudéi     tudei     tudeh     투데이       tudey
tonight   टुनाइट    тунайт    tunáit    tunait    tunait    투나이트      tunayt
"""

_HEADER, *_ROWS = (line.split() for line in _TABLE.strip().splitlines())
RESPELLING: dict[str, dict[str, str]] = {row[0]: dict(zip(_HEADER[1:], row[1:])) for row in _ROWS}
"""Word -> language -> spelling."""


def respell(sentence: str, language: str) -> str:
    """An English sentence in the orthography of `language`.

    Raises:
        KeyError: a word or a language that is not in the table.
    """
    return " ".join(RESPELLING[word][language] for word in sentence.split())
